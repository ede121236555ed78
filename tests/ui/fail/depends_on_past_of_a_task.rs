use orchestrator::prelude::*;

#[task(depends_on_past)]
async fn extract() -> u32 {
    1
}

fn main() {}
