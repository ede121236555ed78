use orchestrator::Secret;
use orchestrator::prelude::*;

#[task]
async fn score(#[secret("api_key")] key: &Secret) -> Secret {
    key.clone()
}

fn main() {}
