use orchestrator::prelude::*;

#[task]
async fn extract(limit: u32) -> Result<Vec<Customer>> {
    Ok(Vec::with_capacity(limit as usize))
}

fn main() {}
