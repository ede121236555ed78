use orchestrator::prelude::*;

#[task]
async fn extract() -> u64 {
    1
}

#[flow]
fn pipeline() -> Node<u64> {
    extract().await;
    extract()
}

fn main() {
    let _ = pipeline();
}
