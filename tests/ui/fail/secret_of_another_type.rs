use orchestrator::prelude::*;

struct Secret(String);

#[task]
async fn score(#[secret("api_key")] key: &Secret) -> usize {
    key.0.len()
}

fn main() {}
