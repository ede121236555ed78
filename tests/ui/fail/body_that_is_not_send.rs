use orchestrator::prelude::*;

use std::rc::Rc;

#[task]
async fn extract() -> u32 {
    let shared = Rc::new(1);
    tokio::task::yield_now().await;
    *shared
}

fn main() {}
