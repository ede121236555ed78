use orchestrator::prelude::*;

#[task]
async fn extract() -> u32 {
    1
}

#[flow(schedule = "CRON_TZ=Europe/Zurich 0 6 * * *")]
fn pipeline() -> Node<u32> {
    extract()
}

fn main() {
    let _ = pipeline();
}
