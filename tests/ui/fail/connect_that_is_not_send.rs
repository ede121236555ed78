use orchestrator::prelude::*;
use orchestrator::{Connect, Connection};
use std::rc::Rc;

struct Shop;

impl Connect for Shop {
    async fn connect(connection: &Connection) -> Result<Self> {
        let kind = Rc::new(connection.kind().to_owned());
        tokio::task::yield_now().await;
        drop(kind);
        Ok(Self)
    }
}

#[task]
async fn load(#[connection("shop")] _shop: &Shop) -> u32 {
    1
}

fn main() {}
