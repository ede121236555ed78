use orchestrator::prelude::*;

#[task(retry_delay = ["1s", "5min"])]
async fn extract() -> Result<u32> {
    Ok(1)
}

fn main() {}
