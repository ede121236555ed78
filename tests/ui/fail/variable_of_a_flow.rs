use orchestrator::prelude::*;

#[task]
async fn load(batch: u32) -> u32 {
    batch
}

#[flow]
fn pipeline(#[variable("batch_size")] batch: u32) -> Node<u32> {
    load(batch)
}

fn main() {
    let _ = pipeline();
}
