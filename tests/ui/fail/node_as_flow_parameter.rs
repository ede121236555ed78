use orchestrator::prelude::*;

#[task]
async fn double(n: u32) -> u32 {
    2 * n
}

#[flow]
fn pipeline(n: Node<u32>) -> Node<u32> {
    double(n)
}

#[flow]
fn outer() -> Node<u32> {
    double(pipeline(double(1)))
}

fn main() {
    let _ = outer();
}
