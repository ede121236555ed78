use orchestrator::prelude::*;

fn main() {
    let schedule: Schedule = cron!("0 6 * * *", "Europe/Zurich");
    println!("{schedule}");
}
