use orchestrator::prelude::*;

#[task]
async fn load() -> u32 {
    1
}

#[flow(connections = ["shop", "orders", "shop"])]
fn pipeline() -> Node<u32> {
    load()
}

fn main() {}
