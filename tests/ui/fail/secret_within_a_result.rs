use orchestrator::Secret;
use orchestrator::prelude::*;

#[task]
async fn score(#[secret("api_key")] key: &Secret) -> Result<Vec<Secret>> {
    Ok(vec![key.clone()])
}

fn main() {}
