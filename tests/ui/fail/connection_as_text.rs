use orchestrator::prelude::*;

#[task]
async fn load(#[connection("shop")] shop: &str) -> usize {
    shop.len()
}

fn main() {}
