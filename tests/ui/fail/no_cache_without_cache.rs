use orchestrator::prelude::*;

#[task]
async fn score(customer: u32, #[no_cache] verbose: bool) -> u64 {
    if verbose { 0 } else { u64::from(customer) }
}

fn main() {}
