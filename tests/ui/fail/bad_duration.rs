use orchestrator::prelude::*;

#[task(timeout = "5 minutes")]
async fn extract() -> Result<u32> {
    Ok(1)
}

fn main() {}
