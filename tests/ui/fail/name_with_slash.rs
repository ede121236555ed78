use orchestrator::prelude::*;

#[task(name = "load/customers")]
async fn load() -> Result<u32> {
    Ok(1)
}

fn main() {}
