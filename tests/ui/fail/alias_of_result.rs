use orchestrator::prelude::*;

type Extracted = Result<u32>;

#[task]
async fn extract() -> Extracted {
    Ok(1)
}

fn main() {}
