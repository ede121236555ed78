use orchestrator::prelude::*;

#[task(retries = 3 timeout = "5m")]
async fn extract() -> Result<u32> {
    Ok(1)
}

fn main() {}
