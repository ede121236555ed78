use orchestrator::prelude::*;

#[derive(Debug)]
struct Refused;

#[flow]
async fn pipeline() -> std::result::Result<u32, Refused> {
    Err(Refused)
}

fn main() {
    let _ = pipeline();
}
