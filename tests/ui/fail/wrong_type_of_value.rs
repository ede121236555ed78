use orchestrator::prelude::*;

#[task]
async fn extract(limit: u32) -> Vec<u32> {
    vec![limit]
}

#[flow]
fn pipeline() -> Node<Vec<u32>> {
    extract("three")
}

fn main() {
    let _ = pipeline();
}
