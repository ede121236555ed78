use orchestrator::prelude::*;

use serde::{Deserialize, Serialize};

#[derive(Clone, Serialize, Deserialize)]
struct Report;

#[task]
async fn report() -> Report {
    Report
}

#[flow]
fn pipeline() -> Report {
    report()
}

fn main() {
    let _ = pipeline();
}
