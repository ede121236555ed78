use orchestrator::Secret;
use orchestrator::prelude::*;

#[task]
async fn score(customer: u32, key: String) -> usize {
    customer as usize + key.len()
}

#[flow]
fn pipeline() -> Node<usize> {
    score(1, Secret::from("k-123456"))
}

fn main() {
    let _ = pipeline();
}
