use orchestrator::prelude::*;

struct Loader {
    table: String,
}

impl Loader {
    #[task]
    async fn load(&self, rows: u64) -> Result<u64> {
        println!("{}", self.table);
        Ok(rows)
    }
}

fn main() {
    let loader = Loader { table: "customers".into() };
    loader.load(1);
}
