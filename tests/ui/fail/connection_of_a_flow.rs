use orchestrator::prelude::*;
use orchestrator::{Connect, Connection};

struct Shop;

impl Connect for Shop {
    async fn connect(_: &Connection) -> Result<Self> {
        Ok(Self)
    }
}

#[task]
async fn load(#[connection("shop")] _shop: &Shop) -> u32 {
    1
}

#[flow]
fn pipeline(#[connection("shop")] shop: &Shop) -> Node<u32> {
    load()
}

fn main() {
    let _ = pipeline();
}
