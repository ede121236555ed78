use orchestrator::prelude::*;

#[task]
async fn load(rows: u32, #[variable("batch_size")] batch: u32) -> u32 {
    rows / batch
}

#[flow]
fn pipeline() -> Node<u32> {
    load(1, 2)
}

fn main() {
    let _ = pipeline();
}
