use orchestrator::prelude::*;

#[task]
#[flow]
fn extract() -> u32 {
    1
}

fn main() {}
