use orchestrator::prelude::*;

const DAILY: &str = "0 6 * * *";

fn main() {
    let schedule: Schedule = cron!(DAILY);
    println!("{schedule}");
}
