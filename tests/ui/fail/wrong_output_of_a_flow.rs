use orchestrator::prelude::*;

#[task]
async fn extract() -> u64 {
    1
}

#[flow]
fn pipeline() -> Node<String> {
    extract()
}

fn main() {
    let _ = pipeline();
}
