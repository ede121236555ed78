use orchestrator::prelude::*;

#[task(timeout = "0s")]
async fn extract() -> Result<u32> {
    Ok(1)
}

fn main() {}
