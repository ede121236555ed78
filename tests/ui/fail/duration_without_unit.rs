use orchestrator::prelude::*;

#[task(timeout = 60)]
async fn extract() -> Result<u32> {
    Ok(1)
}

fn main() {}
