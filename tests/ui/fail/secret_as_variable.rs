use orchestrator::Secret;
use orchestrator::prelude::*;

#[task]
async fn score(#[variable("api_key")] key: &Secret) -> usize {
    key.expose().len()
}

fn main() {}
