use orchestrator::prelude::*;

#[task(trigger = all_failed, run_on_cancel)]
async fn tidy() {}

fn main() {}
