use orchestrator::prelude::*;

fn day_of(customer: &u32) -> u32 {
    *customer
}

#[task(cache_key = day_of)]
async fn score(customer: u32) -> u64 {
    u64::from(customer)
}

fn main() {}
