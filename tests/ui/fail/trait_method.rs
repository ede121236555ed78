use orchestrator::prelude::*;

trait Extract {
    #[task]
    async fn extract(table: &str) -> Result<u64>;
}

fn main() {}
