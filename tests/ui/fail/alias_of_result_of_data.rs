use orchestrator::prelude::*;

type Extracted = Result<u32, String>;

#[task]
async fn extract() -> Extracted {
    Ok(1)
}

fn main() {}
