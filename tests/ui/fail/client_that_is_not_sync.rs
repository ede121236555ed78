use orchestrator::prelude::*;
use orchestrator::{Connect, Connection};
use std::cell::Cell;

struct Shop {
    orders: Cell<u32>,
}

impl Connect for Shop {
    async fn connect(_: &Connection) -> Result<Self> {
        Ok(Self { orders: Cell::new(0) })
    }
}

fn main() {}
