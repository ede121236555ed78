use orchestrator::prelude::*;

#[task]
async fn list() -> Vec<u32> {
    vec![1]
}

#[task]
async fn shout(text: &str) -> String {
    text.to_uppercase()
}

#[flow]
fn pipeline() -> Mapped<String> {
    list().expand(shout)
}

fn main() {
    let _ = pipeline();
}
