use orchestrator::prelude::*;

fn main() {
    let schedule: Schedule = cron!();
    println!("{schedule}");
}
