use orchestrator::prelude::*;

struct Day(#[allow(dead_code)] u32);

fn day_of(customer: &u32) -> Day {
    Day(*customer)
}

#[task(cache, cache_key = day_of)]
async fn score(customer: u32) -> u64 {
    u64::from(customer)
}

fn main() {}
