use orchestrator::prelude::*;

#[task]
async fn extract() -> u64 {
    1
}

#[flow]
async fn pipeline() -> u64 {
    extract().await.unwrap()
}

fn main() {
    let _ = pipeline();
}
