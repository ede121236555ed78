use orchestrator::prelude::*;

#[task(retires = 3, timeout = 60, trigger = always, trigger = one_failed)]
async fn extract((start, end): (u32, u32), table: &mut String) -> &str {
    "1"
}

fn main() {}
