use orchestrator::prelude::*;

struct Database;

#[task]
async fn read(table: &str, #[resource] database: Database) -> u64 {
    drop(database);
    table.len() as u64
}

#[flow]
fn pipeline() -> Node<u64> {
    read("customers")
}

fn main() {
    let _ = pipeline();
}
