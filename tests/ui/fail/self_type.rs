use orchestrator::prelude::*;

struct Loader;

impl Loader {
    const TABLE: &str = "customers";

    #[task]
    async fn load(rows: u64) -> Result<u64> {
        println!("{rows} rows into {}", Self::TABLE);
        Ok(rows)
    }
}

#[flow]
fn pipeline() -> Node<u64> {
    Loader::load(1)
}

fn main() {
    let _ = pipeline();
}
