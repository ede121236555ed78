use orchestrator::prelude::*;

use std::rc::Rc;

#[task]
async fn extract() -> u32 {
    1
}

#[flow]
async fn pipeline() -> Result<u32> {
    let shared = Rc::new(1);
    let n = extract().await?;
    Ok(n + *shared)
}

fn main() {
    let _ = pipeline();
}
