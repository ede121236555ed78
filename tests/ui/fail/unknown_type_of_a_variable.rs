use orchestrator::prelude::*;

#[task]
async fn load(#[variable("limits")] _limits: Limits) -> u32 {
    1
}

fn main() {}
