use orchestrator::prelude::*;

#[task(version = "2")]
async fn score(customer: u32) -> u64 {
    u64::from(customer)
}

fn main() {}
