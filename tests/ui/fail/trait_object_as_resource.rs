use orchestrator::prelude::*;

trait Database {
    fn count(&self, table: &str) -> u64;
}

#[task]
async fn read(table: &str, #[resource] database: &dyn Database) -> u64 {
    database.count(table)
}

fn main() {}
