use orchestrator::prelude::*;

#[derive(Clone)]
struct Customer {
    id: u32,
}

#[task]
async fn extract() -> Result<Vec<Customer>> {
    Ok(vec![Customer { id: 1 }])
}

fn main() {
    let _ = Customer { id: 1 }.id;
}
