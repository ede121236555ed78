use orchestrator::prelude::*;

#[task]
async fn add(a: u32, b: u32) {
    a + b
}

fn main() {}
