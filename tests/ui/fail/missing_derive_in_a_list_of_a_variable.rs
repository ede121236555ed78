use orchestrator::prelude::*;

struct Limit(u32);

#[task]
fn load(#[variable("limits")] limits: &[Limit]) -> u32 {
    limits.iter().map(|limit| limit.0).sum()
}

fn main() {}
