use orchestrator::prelude::*;

#[task]
async fn extract() -> u32 {
    1
}

#[flow(defaults(retry_dely = "5m"))]
fn pipeline() -> Node<u32> {
    extract()
}

fn main() {
    let _ = pipeline();
}
