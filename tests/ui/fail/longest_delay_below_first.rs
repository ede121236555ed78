use orchestrator::prelude::*;

#[task(retries = 3, retry_delay = "60s", backoff = 2, max_retry_delay = "10s")]
async fn extract() -> Result<u32> {
    Ok(1)
}

fn main() {}
