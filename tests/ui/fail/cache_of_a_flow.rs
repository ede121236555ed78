use orchestrator::prelude::*;

#[task]
async fn score(customer: u32) -> u64 {
    u64::from(customer)
}

#[flow(cache = "1h")]
fn pipeline(customer: u32) -> Node<u64> {
    score(customer)
}

fn main() {}
