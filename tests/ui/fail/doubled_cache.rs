use orchestrator::prelude::*;

#[task(cache, retries = 2, cache = "1h")]
async fn score(customer: u32) -> u64 {
    u64::from(customer)
}

fn main() {}
