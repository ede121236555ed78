use orchestrator::prelude::*;

fn day_of(customer: &str) -> u32 {
    customer.len() as u32
}

#[task(cache, cache_key = day_of)]
async fn score(customer: u32) -> u64 {
    u64::from(customer)
}

fn main() {}
