use orchestrator::prelude::*;

#[task(trigger = one_succes)]
async fn notify(rows: Option<u64>) {
    drop(rows);
}

fn main() {}
