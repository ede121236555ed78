use orchestrator::prelude::*;

#[task]
async fn double(n: u32) -> u32 {
    2 * n
}

#[flow]
fn inner(n: u32) -> Node<u32> {
    double(n)
}

#[flow]
fn outer() -> Node<u32> {
    double(inner(double(1)))
}

fn main() {
    let _ = outer();
}
