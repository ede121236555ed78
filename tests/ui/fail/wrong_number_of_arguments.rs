use orchestrator::prelude::*;

#[task]
async fn extract(table: &str, limit: u32) -> Vec<u32> {
    vec![limit; table.len()]
}

#[flow]
fn pipeline() -> Node<Vec<u32>> {
    extract("customers")
}

fn main() {
    let _ = pipeline();
}
