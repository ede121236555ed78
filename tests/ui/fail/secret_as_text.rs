use orchestrator::prelude::*;

#[task]
async fn score(#[secret("api_key")] key: &str) -> usize {
    key.len()
}

fn main() {}
