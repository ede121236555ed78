use orchestrator::prelude::*;

#[task]
async fn extract(n: u64) -> u64 {
    n
}

#[flow]
fn pipeline() -> Vec<Node<u64>> {
    vec![extract(1), extract(2)]
}

fn main() {
    let _ = pipeline();
}
