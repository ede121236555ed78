use orchestrator::Secret;
use orchestrator::prelude::*;

#[task]
async fn score(#[secret("api_key")] key: &Secret) -> Result<u32> {
    Err(key.into())
}

fn main() {}
