use orchestrator::prelude::*;

#[task]
async fn extract() -> Vec<u32> {
    vec![1]
}

#[task]
async fn again() -> Node<Vec<u32>> {
    extract()
}

fn main() {}
