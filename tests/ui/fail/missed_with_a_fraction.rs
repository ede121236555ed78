use orchestrator::prelude::*;

#[task]
async fn extract() -> u32 {
    1
}

#[flow(schedule = "0 6 * * *", missed = 1.5)]
fn pipeline() -> Node<u32> {
    extract()
}

fn main() {
    let _ = pipeline();
}
