#![deny(unused_must_use)]

use orchestrator::prelude::*;

#[task]
async fn extract() -> u32 {
    1
}

#[flow]
fn pipeline() -> Node<u32> {
    extract()
}

fn main() {
    pipeline();
}
