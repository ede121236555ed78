use orchestrator::prelude::*;

#[task(trigger = all_done, run_on_cancel = true)]
async fn tidy() {}

fn main() {}
