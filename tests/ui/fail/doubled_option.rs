use orchestrator::prelude::*;

#[task(retries = 3, timeout = "5m", retries = 4)]
async fn extract() -> Result<u32> {
    Ok(1)
}

fn main() {}
