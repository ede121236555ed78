use orchestrator::prelude::*;

#[task]
struct Extract {
    table: String,
}

fn main() {
    let _ = Extract { table: String::new() }.table;
}
