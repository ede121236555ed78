use orchestrator::prelude::*;

struct Database;

#[task]
async fn read(table: &str, #[resource] database: &mut Database) -> u64 {
    let _ = database;
    table.len() as u64
}

fn main() {}
