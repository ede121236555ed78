use orchestrator::prelude::*;
use orchestrator::{Connect, Connection};

struct Shop;

impl Connect for Shop {
    async fn connect(_: &Connection) -> Result<Self> {
        Ok(Self)
    }
}

#[task]
async fn load(rows: u32, #[connection] _shop: &Shop) -> u32 {
    rows
}

fn main() {}
