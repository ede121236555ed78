use orchestrator::prelude::*;

#[task(retries = 500)]
async fn extract() -> Result<u32> {
    Ok(1)
}

fn main() {}
