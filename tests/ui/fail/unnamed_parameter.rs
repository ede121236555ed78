use orchestrator::prelude::*;

#[task]
async fn extract(_: u32) -> u32 {
    1
}

#[flow]
fn pipeline() -> Node<u32> {
    extract(1)
}

fn main() {
    let _ = pipeline();
}
