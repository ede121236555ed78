use orchestrator::prelude::*;

#[task]
async fn table(name: &str) -> &str {
    name
}

#[task]
async fn load(table: String) -> u64 {
    table.len() as u64
}

#[flow]
fn pipeline() -> Node<u64> {
    load(table("customers"))
}

fn main() {
    let _ = pipeline();
}
