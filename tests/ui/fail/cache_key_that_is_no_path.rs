use orchestrator::prelude::*;

#[task(cache, cache_key = |customer| customer)]
async fn score(customer: u32) -> u64 {
    u64::from(customer)
}

fn main() {}
