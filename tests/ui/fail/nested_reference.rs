use orchestrator::prelude::*;

#[task]
async fn extract(table: Option<&str>) -> String {
    table.unwrap_or("customers").into()
}

fn main() {}
