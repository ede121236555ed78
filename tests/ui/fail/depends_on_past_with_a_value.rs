use orchestrator::prelude::*;

#[task]
async fn extract() -> u32 {
    1
}

#[flow(schedule = "0 6 * * *", depends_on_past = true)]
fn pipeline() -> Node<u32> {
    extract()
}

fn main() {
    let _ = pipeline();
}
