use orchestrator::Secret;
use orchestrator::prelude::*;

#[task(cache)]
async fn score(#[no_cache] #[secret("api_key")] key: &Secret) -> usize {
    key.expose().len()
}

fn main() {}
