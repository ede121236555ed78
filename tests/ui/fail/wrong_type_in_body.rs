use orchestrator::prelude::*;

#[task]
async fn extract(limit: u32) -> Result<Vec<u32>> {
    Ok(limit)
}

fn main() {}
