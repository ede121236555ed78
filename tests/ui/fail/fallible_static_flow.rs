use orchestrator::prelude::*;

#[task]
async fn extract() -> u64 {
    1
}

#[flow]
fn pipeline() -> Result<u64> {
    Ok(extract().await?)
}

fn main() {
    let _ = pipeline();
}
