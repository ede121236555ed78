use orchestrator::prelude::*;

#[task(trigger = all_done, run_on_cancel)]
async fn tidy() {}

#[flow(run_on_cancel)]
fn pipeline() {
    tidy();
}

#[flow(defaults(run_on_cancel))]
fn other() {
    tidy();
}

fn main() {}
