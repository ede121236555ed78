use orchestrator::prelude::*;

#[task(trigger = all_done, run_on_cancel, run_on_cancel)]
async fn tidy() {}

fn main() {}
