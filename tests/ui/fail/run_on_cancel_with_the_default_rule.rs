use orchestrator::prelude::*;

#[task(run_on_cancel)]
async fn tidy() {}

fn main() {}
