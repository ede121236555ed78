use orchestrator::prelude::*;

struct Shop;

#[task]
async fn load(#[connection("shop")] _shop: &Shop) -> u32 {
    1
}

fn main() {}
