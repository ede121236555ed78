use orchestrator::prelude::*;

#[task]
async fn first<T: Clone>(rows: Vec<T>) -> Result<T> {
    Ok(rows[0].clone())
}

#[flow]
fn pipeline() -> Node<u32> {
    first(vec![1_u32])
}

fn main() {
    let _ = pipeline();
}
