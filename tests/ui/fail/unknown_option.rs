use orchestrator::prelude::*;

#[task(retires = 3)]
async fn extract() -> Result<u32> {
    Ok(1)
}

fn main() {}
