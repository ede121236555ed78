use orchestrator::prelude::*;

struct Database;

#[task]
async fn extract() -> u64 {
    1
}

#[flow]
fn pipeline(#[resource] database: &Database) -> Node<u64> {
    let _ = database;
    extract()
}

fn main() {
    let _ = pipeline();
}
