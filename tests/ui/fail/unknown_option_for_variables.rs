use orchestrator::prelude::*;

#[task]
async fn load() -> u32 {
    1
}

#[flow(variable = ["batch_size"])]
fn pipeline() -> Node<u32> {
    load()
}

fn main() {}
