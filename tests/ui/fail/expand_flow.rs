use orchestrator::prelude::*;

#[task]
async fn list() -> Vec<u32> {
    vec![1]
}

#[task]
async fn double(n: u32) -> u32 {
    2 * n
}

#[flow]
fn each(n: u32) -> Node<u32> {
    double(n)
}

#[task]
async fn sum(all: Vec<u32>) -> u32 {
    all.iter().sum()
}

#[flow]
fn pipeline() -> Node<u32> {
    sum(list().expand(each))
}

fn main() {
    let _ = pipeline();
}
