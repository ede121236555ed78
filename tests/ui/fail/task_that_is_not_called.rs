use orchestrator::prelude::*;

#[task]
async fn extract() -> Vec<u32> {
    vec![1]
}

#[task]
async fn load(rows: &[u32]) -> u64 {
    rows.len() as u64
}

#[flow]
fn pipeline() -> Node<u64> {
    load(extract)
}

fn main() {
    let _ = pipeline();
}
