use orchestrator::prelude::*;

struct Database;

#[task(cache)]
async fn score(customer: u32, #[resource] #[no_cache] _database: &Database) -> u64 {
    u64::from(customer)
}

fn main() {}
