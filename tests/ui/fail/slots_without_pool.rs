use orchestrator::prelude::*;

#[task(pool_slots = 2)]
async fn extract() -> Result<u32> {
    Ok(1)
}

fn main() {}
