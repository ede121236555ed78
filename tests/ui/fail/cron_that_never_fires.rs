use orchestrator::prelude::*;

fn main() {
    let schedule: Schedule = cron!("0 6 30 2 *");
    println!("{schedule}");
}
