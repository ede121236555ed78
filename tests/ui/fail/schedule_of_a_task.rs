use orchestrator::prelude::*;

#[task(schedule = "0 6 * * *")]
async fn extract() -> u32 {
    1
}

fn main() {}
