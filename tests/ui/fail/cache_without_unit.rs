use orchestrator::prelude::*;

#[task(cache = 3600)]
async fn score(customer: u32) -> u64 {
    u64::from(customer)
}

fn main() {}
