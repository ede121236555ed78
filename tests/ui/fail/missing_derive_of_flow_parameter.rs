use orchestrator::prelude::*;

#[derive(Clone)]
struct Settings {
    limit: u32,
}

#[task]
async fn extract(limit: u32) -> u32 {
    limit
}

#[flow]
fn pipeline(settings: Settings) -> Node<u32> {
    extract(settings.limit)
}

fn main() {
    let _ = pipeline(Settings { limit: 1 });
}
