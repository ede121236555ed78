use orchestrator::prelude::*;

#[task]
async fn load(#[variable("batch_size")] batch: Node<u32>) -> u32 {
    batch
}

fn main() {}
