use orchestrator::prelude::*;

#[task]
async fn load(rows: u32, #[no_cache] #[variable("batch_size")] batch: u32) -> u32 {
    rows / batch
}

fn main() {}
