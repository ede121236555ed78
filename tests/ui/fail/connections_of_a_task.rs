use orchestrator::prelude::*;
use orchestrator::{Connect, Connection};

struct Shop;

impl Connect for Shop {
    async fn connect(_: &Connection) -> Result<Self> {
        Ok(Self)
    }
}

#[task(connections = ["shop"])]
async fn load(#[connection("shop")] _shop: &Shop) -> u32 {
    1
}

fn main() {}
