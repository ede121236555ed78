use orchestrator::prelude::*;

#[task]
async fn load(#[variable("batch_size", 100)] batch: u32) -> u32 {
    batch
}

fn main() {}
