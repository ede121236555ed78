use orchestrator::prelude::*;

struct Database;

#[task]
async fn read(table: &str, #[ressource] database: &Database) -> u64 {
    let _ = database;
    table.len() as u64
}

fn main() {}
