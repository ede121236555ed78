use orchestrator::prelude::*;

#[task]
async fn extract() -> u64 {
    1
}

#[flow]
fn pipeline() -> u64 {
    extract()
}

fn main() {
    let _ = pipeline();
}
