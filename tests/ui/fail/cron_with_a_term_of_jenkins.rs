use orchestrator::prelude::*;

fn main() {
    let schedule: Schedule = cron!("H 6 * * *");
    println!("{schedule}");
}
