use orchestrator::Secret;
use orchestrator::prelude::*;

#[task]
async fn score(customer: u32, #[secret("api_key")] _key: &Secret) -> u32 {
    customer
}

#[flow]
fn pipeline(#[secret("api_key")] _key: &Secret) -> Node<u32> {
    score(1)
}

fn main() {
    let _ = pipeline();
}
