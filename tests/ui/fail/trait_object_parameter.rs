use orchestrator::prelude::*;

#[task]
async fn show(row: Box<dyn std::fmt::Display>) -> String {
    row.to_string()
}

fn main() {}
