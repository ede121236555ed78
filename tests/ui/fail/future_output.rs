use orchestrator::prelude::*;

#[task]
fn extract() -> impl Future<Output = u32> {
    async { 1 }
}

#[flow]
fn pipeline() -> Node<u32> {
    extract()
}

fn main() {
    let _ = pipeline();
}
