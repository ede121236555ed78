use orchestrator::prelude::*;

#[task(cache = true)]
async fn score(customer: u32) -> u64 {
    u64::from(customer)
}

fn main() {}
