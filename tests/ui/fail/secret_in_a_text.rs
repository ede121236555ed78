use orchestrator::Secret;
use orchestrator::prelude::*;

#[task]
async fn score(#[secret("api_key")] key: &Secret) -> String {
    format!("Bearer {key}")
}

fn main() {}
