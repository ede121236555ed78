use orchestrator::prelude::*;

#[task]
async fn load() -> u32 {
    1
}

#[flow(secrets = ["scoring/key"])]
fn pipeline() -> Node<u32> {
    load()
}

fn main() {}
