use orchestrator::prelude::*;

#[task]
async fn add((a, b): (u32, u32)) -> u32 {
    a + b
}

#[flow]
fn pipeline() -> Node<u32> {
    add((1, 2))
}

fn main() {
    let _ = pipeline();
}
