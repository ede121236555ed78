use orchestrator::prelude::*;

#[task]
async fn extract(table: &str) -> u64 {
    table.len() as u64
}

#[flow]
fn pipeline(table: &str) -> Node<u64> {
    extract(table)
}

fn main() {
    let _ = pipeline("customers");
}
