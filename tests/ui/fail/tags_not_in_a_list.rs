use orchestrator::prelude::*;

#[task(tags = "daily")]
async fn extract() -> Result<u32> {
    Ok(1)
}

fn main() {}
