use orchestrator::prelude::*;

#[task(retries = 3, retry_delay = ["1s", "5s"], backoff = 2)]
async fn extract() -> Result<u32> {
    Ok(1)
}

fn main() {}
