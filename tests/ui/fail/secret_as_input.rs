use orchestrator::Secret;
use orchestrator::prelude::*;

#[task]
async fn score(key: &Secret) -> usize {
    key.expose().len()
}

fn main() {}
