use orchestrator::prelude::*;

#[task]
async fn load(#[connection("shop")] _shop: &Postgers) -> u32 {
    1
}

fn main() {}
