use orchestrator::prelude::*;

#[task]
async fn extract() -> u32 {
    1
}

#[flow(max_active_runs = 1, overlap = "cancel_running", depends_on_past)]
fn pipeline() -> Node<u32> {
    extract()
}

fn main() {
    let _ = pipeline();
}
