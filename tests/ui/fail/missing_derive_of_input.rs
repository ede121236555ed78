use orchestrator::prelude::*;

#[derive(Clone)]
struct Customer {
    id: u32,
}

#[task]
async fn count(customers: &[Customer]) -> u64 {
    customers.iter().map(|customer| u64::from(customer.id)).sum()
}

fn main() {}
