use orchestrator::prelude::*;

#[derive(Clone)]
struct Customer {
    id: u32,
}

#[flow]
async fn pipeline() -> Result<Vec<Customer>> {
    Ok(vec![Customer { id: 1 }])
}

fn main() {
    let _ = pipeline();
    let _ = Customer { id: 1 }.id;
}
