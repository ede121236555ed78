use orchestrator::prelude::*;

#[task]
async fn extract() -> u32 {
    1
}

#[flow(timeout = 2h)]
fn pipeline() -> Node<u32> {
    extract()
}

fn main() {
    let _ = pipeline();
}
