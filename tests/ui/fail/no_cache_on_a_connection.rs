use orchestrator::prelude::*;
use orchestrator::{Connect, Connection};

struct Shop;

impl Connect for Shop {
    async fn connect(_: &Connection) -> Result<Self> {
        Ok(Self)
    }
}

#[task(cache)]
async fn load(rows: u32, #[no_cache] #[connection("shop")] _shop: &Shop) -> u32 {
    rows
}

fn main() {}
