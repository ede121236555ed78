use orchestrator::prelude::*;

fn main() {
    let schedule: Schedule = cron!("0 6 30W 2 *");
    println!("{schedule}");
}
