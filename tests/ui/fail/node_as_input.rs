use orchestrator::prelude::*;

#[task]
async fn score(customers: Node<Vec<u32>>) -> u64 {
    customers.await.unwrap().len() as u64
}

fn main() {}
