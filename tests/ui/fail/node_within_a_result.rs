use orchestrator::prelude::*;

#[task]
async fn extract() -> u64 {
    1
}

#[flow]
async fn pipeline() -> Result<Node<u64>> {
    Ok(extract())
}

fn main() {
    let _ = pipeline();
}
