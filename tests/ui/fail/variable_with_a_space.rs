use orchestrator::prelude::*;

#[task]
async fn load(#[variable("batch size")] batch: u32) -> u32 {
    batch
}

fn main() {}
