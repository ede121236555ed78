use orchestrator::prelude::*;

#[derive(Clone)]
struct Customer {
    id: u32,
}

fn id_of(customer: &Customer) -> u32 {
    customer.id
}

#[task(cache, cache_key = id_of)]
async fn score(customer: Customer) -> u64 {
    u64::from(customer.id)
}

fn main() {}
