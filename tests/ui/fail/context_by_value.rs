use orchestrator::prelude::*;

#[task]
async fn extract(#[context] context: Context) -> u32 {
    context.attempt()
}

fn main() {}
