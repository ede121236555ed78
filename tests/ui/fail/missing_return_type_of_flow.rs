use orchestrator::prelude::*;

#[task]
async fn extract() -> u32 {
    1
}

#[flow]
fn pipeline() {
    extract()
}

fn main() {
    let _ = pipeline();
}
