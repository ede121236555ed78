use orchestrator::prelude::*;

fn main() {
    let schedule: Schedule = cron!("*/15 9-25 * * MON-FRI");
    println!("{schedule}");
}
