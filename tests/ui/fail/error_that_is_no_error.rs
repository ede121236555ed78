use orchestrator::prelude::*;

#[derive(Debug)]
struct Refused;

#[task]
async fn extract() -> std::result::Result<u32, Refused> {
    Err(Refused)
}

fn main() {}
