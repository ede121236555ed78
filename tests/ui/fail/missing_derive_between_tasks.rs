use orchestrator::prelude::*;

#[derive(Clone)]
struct Customer {
    id: u32,
}

#[task]
async fn extract() -> Result<Vec<Customer>> {
    Ok(vec![Customer { id: 1 }])
}

#[task]
async fn count(customers: Vec<Customer>) -> u64 {
    customers.iter().map(|customer| u64::from(customer.id)).sum()
}

#[flow]
fn pipeline() -> Node<u64> {
    count(extract())
}

fn main() {
    let _ = pipeline();
}
