use orchestrator::prelude::*;

#[task]
async fn show() -> std::fmt::Result {
    Ok(())
}

#[flow]
fn pipeline() {
    show();
}

fn main() {
    let _ = pipeline();
}
