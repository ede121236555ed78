use orchestrator::Secret;
use orchestrator::prelude::*;

#[task]
async fn score(customer: u32) -> u32 {
    customer
}

#[flow]
fn pipeline(_key: Secret) -> Node<u32> {
    score(1)
}

fn main() {
    let _ = pipeline(Secret::from("k-123456"));
}
