use orchestrator::prelude::*;

#[task]
async fn sort(rows: &mut Vec<u32>) -> u64 {
    rows.sort();
    rows.len() as u64
}

#[flow]
fn pipeline() -> Node<u64> {
    sort(vec![2, 1])
}

fn main() {
    let _ = pipeline();
}
