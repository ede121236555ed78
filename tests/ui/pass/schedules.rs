//! Schedules in the source: `cron!`, and what `#[flow]` is given.

use std::time::Duration;

use orchestrator::prelude::*;
use orchestrator::{Cron, CronError, FlowDef, Missed, Overlap, ScheduleDef, flows};

mod without_prelude {
    pub(super) static NIGHTLY: orchestrator::Schedule = orchestrator::cron!("30 2 * * *");
}

const DAILY: Schedule = cron!("@daily");
const PAYDAY: Schedule = cron!("0 9 15W,LW * FRI#2,5L");

macro_rules! schedules {
    ($($expression:literal),*) => { [$(cron!($expression)),*] };
}

macro_rules! scheduled {
    ($name:ident, $schedule:literal, $zone:expr) => {
        #[flow(schedule = $schedule, timezone = $zone)]
        fn $name() {}
    };
}

scheduled!(of_a_macro, "0 0 12 * * SUN", "America/New_York");

#[flow(schedule = "0 6 * * *")]
fn scheduled_alone() {}

#[flow(max_active_runs = 2, overlap = "cancel_running")]
fn overlapping() {}

#[flow(schedule = "@hourly", missed = "1d12h", depends_on_past)]
fn made_up_within_a_time() {}

#[flow(schedule = "@hourly", missed = 10)]
fn made_up_in_number() {}

#[flow(max_active_runs = 1, overlap = "latest")]
fn overlapping_with_the_latest() {}

#[flow(
    schedule = r"@hourly",
    timezone = "Europe/Zurich",
    missed = "none",
    max_active_runs = 1,
    overlap = "skip"
)]
async fn every_option_of_schedules() -> Result<()> {
    Ok(())
}

#[test]
fn expressions_are_those_of_run_time() -> Result<(), CronError> {
    assert_eq!(DAILY, Schedule::cron("0 0 * * *")?);
    assert_eq!(PAYDAY, Schedule::cron("0 9 LW,15W * 5#2,5L")?);
    assert_ne!(PAYDAY, Schedule::cron("0 9 LW,15W * 5#2")?);
    assert_eq!(without_prelude::NIGHTLY, Schedule::cron("30 2 * * *")?);
    let of_a_macro = schedules!("*/15 9-17 * * MON-FRI", "*/10 0 6 29 2 *");
    assert_eq!(
        of_a_macro,
        [
            Schedule::cron("*/15 9-17 * * 1-5")?,
            Schedule::from(Cron::parse("*/10 0 6 29 2 *")?)
        ]
    );
    assert_eq!(cron!(r"0 */2 * * 1",).name(), "0 */2 * * 1");
    Ok(())
}

fn written(name: &str) -> &'static FlowDef {
    flows()
        .find(|flow| flow.name == name && flow.module == module_path!())
        .unwrap_or_else(|| panic!("no `{name}`"))
}

#[test]
fn schedules_are_written_down() {
    for (name, schedule, missed, overlap) in [
        (
            "scheduled_alone",
            Some(("0 6 * * *", "UTC")),
            Missed::Latest,
            Overlap::Queue,
        ),
        (
            "of_a_macro",
            Some(("0 0 12 * * SUN", "America/New_York")),
            Missed::Latest,
            Overlap::Queue,
        ),
        ("overlapping", None, Missed::Latest, Overlap::CancelRunning),
        (
            "overlapping_with_the_latest",
            None,
            Missed::Latest,
            Overlap::Latest,
        ),
        (
            "made_up_within_a_time",
            Some(("@hourly", "UTC")),
            Missed::Within(Duration::from_hours(36)),
            Overlap::Queue,
        ),
        (
            "made_up_in_number",
            Some(("@hourly", "UTC")),
            Missed::AtMost(10),
            Overlap::Queue,
        ),
        (
            "every_option_of_schedules",
            Some(("@hourly", "Europe/Zurich")),
            Missed::None,
            Overlap::Skip,
        ),
    ] {
        let flow = written(name);
        let schedule = schedule.map(|(cron, timezone)| ScheduleDef { cron, timezone });
        assert_eq!(
            (flow.schedule, flow.missed, flow.overlap),
            (schedule, missed, overlap),
            "{name}"
        );
        assert_eq!(
            flow.depends_on_past,
            name == "made_up_within_a_time",
            "{name}"
        );
    }
    drop((
        scheduled_alone(),
        of_a_macro(),
        overlapping(),
        overlapping_with_the_latest(),
        made_up_within_a_time(),
        made_up_in_number(),
        every_option_of_schedules(),
    ));
}
