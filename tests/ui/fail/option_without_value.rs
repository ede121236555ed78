use orchestrator::prelude::*;

#[task(retries)]
async fn extract() -> Result<u32> {
    Ok(1)
}

fn main() {}
