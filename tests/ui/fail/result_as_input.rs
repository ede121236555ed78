use orchestrator::prelude::*;

#[task]
async fn extract() -> Vec<u32> {
    vec![1]
}

#[task]
async fn load(rows: &[u32]) -> u64 {
    rows.len() as u64
}

#[flow]
async fn pipeline() -> Result<u64> {
    let rows = extract().await;
    Ok(load(rows).await?)
}

fn main() {
    let _ = pipeline();
}
