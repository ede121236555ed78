use orchestrator::prelude::*;

fn day_of(customer: &u32, _verbose: &bool) -> u32 {
    *customer
}

#[task(cache, cache_key = day_of)]
async fn score(customer: u32, #[no_cache] verbose: bool) -> u64 {
    if verbose { 0 } else { u64::from(customer) }
}

fn main() {}
