use orchestrator::prelude::*;

#[task]
async fn extract(table: impl Into<String>) -> String {
    table.into()
}

#[flow]
fn pipeline() -> Node<String> {
    extract("customers")
}

fn main() {
    let _ = pipeline();
}
