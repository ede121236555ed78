use orchestrator::Secret;
use orchestrator::prelude::*;

#[task]
async fn key() -> String {
    "k-123456".into()
}

#[task]
async fn score(customer: u32) -> u32 {
    customer
}

#[flow]
fn pipeline() -> Node<u32> {
    let key = key().map(|key| Secret::from(key.as_str()));
    score(1).after(&key)
}

fn main() {
    let _ = pipeline();
}
