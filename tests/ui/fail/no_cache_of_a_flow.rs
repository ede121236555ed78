use orchestrator::prelude::*;

#[task]
async fn score(customer: u32) -> u64 {
    u64::from(customer)
}

#[flow]
fn pipeline(customer: u32, #[no_cache] _verbose: bool) -> Node<u64> {
    score(customer)
}

fn main() {}
