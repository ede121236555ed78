use orchestrator::prelude::*;

#[task]
async fn extract(#[context] context: &Context, #[context] again: &Context) -> u32 {
    context.attempt() + again.attempt()
}

fn main() {}
