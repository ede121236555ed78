use orchestrator::prelude::*;

#[task(cache)]
async fn score(customer: u32, #[no_cache] #[context] _context: &Context) -> u64 {
    u64::from(customer)
}

fn main() {}
