use orchestrator::prelude::*;

struct Limits {
    rows: u32,
}

#[task]
async fn load(#[variable("limits")] limits: &Limits) -> u32 {
    limits.rows
}

fn main() {}
