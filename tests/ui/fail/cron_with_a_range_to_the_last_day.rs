use orchestrator::prelude::*;

fn main() {
    let schedule: Schedule = cron!("0 6 20-L * *");
    println!("{schedule}");
}
