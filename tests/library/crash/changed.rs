//! Runs that go on with a flow that is not the one that began them.

use std::collections::HashMap;

use super::tasks::*;
use super::*;

/// Which flow, and what is another in it.
const FLOW: &str = "CRASH_FLOW";
const CHANGE: &str = "CRASH_CHANGE";

pub(super) async fn act(runtime: &Runtime) {
    match std::env::var(FLOW).unwrap().as_str() {
        "unnamed" => drop(over_a_map(false).on(runtime).run().await),
        "named" => drop(over_a_map(true).on(runtime).run().await),
        "static" => drop(changing().on(runtime).run().await),
        "async" => drop(changing_as_it_goes().on(runtime).run().await),
        unknown => panic!("no flow {unknown}"),
    }
}

/// The numbers of a run's plans and what they say, and its attempts.
type Recorded = (Vec<(i64, Vec<u8>)>, Vec<AttemptRow>);

fn recorded(place: &Place) -> Recorded {
    let connection = place.look().unwrap();
    let mut select = connection
        .prepare("SELECT number, body FROM plans ORDER BY number")
        .unwrap();
    let plans = select
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
        .unwrap();
    (plans.collect::<Result<_, _>>().unwrap(), place.rows())
}

/// What was recorded is recorded still, and nothing came to it but what a body was told again.
fn check_kept(before: &Recorded, after: &Recorded) {
    let kept: Vec<_> = after.0.iter().take(before.0.len()).collect();
    assert_eq!(kept, before.0.iter().collect::<Vec<_>>());
    assert!(
        after.0[before.0.len()..]
            .iter()
            .all(|(_, body)| body[0] == AWAITED),
        "{after:?}"
    );
    assert_eq!(before.1, after.1);
}

/// What a row of `plans` begins with that says what a body was told.
const AWAITED: u8 = 4;

const CHANGED: &str = "the flow changed while the run was under way; start a new run, or go back to the code that began it";

#[task]
async fn load(name: &str, value: u64, #[context] context: &Context) -> Made {
    let work = Work::start(context);
    pause(value % 3).await;
    let made = work.done(value);
    Made {
        padding: name.to_owned(),
        ..made
    }
}

/// A map gives its entries in another order in each process. Here the keys are numbers in that
/// order, or names.
#[flow(name = "crash_over_a_map")]
fn over_a_map(named: bool) {
    let entries: HashMap<String, u64> = (1..=9)
        .map(|value| (format!("table-{value}"), value))
        .collect();
    for (name, value) in entries {
        let loaded = load(&name, value);
        if named {
            let _ = loaded.named(name);
        }
    }
}

#[test]
fn a_static_flow_over_a_hash_map_goes_on_or_fails_by_name() {
    for (flow, succeeds) in [("unnamed", false), ("named", true)] {
        for hit in 2..8 {
            let _case = crate::support::case(format_args!("{flow}, hit {hit}"));
            let place = Place::new(flow);
            place.dies("changed", &[(FLOW, flow)], "body-over", hit);
            let before = recorded(&place);
            place.acts("resume", &[]);
            let run = place.record("crash_over_a_map");
            let error = run.error().map(ToString::to_string).unwrap_or_default();
            if run.state() == RunState::Success {
                // each entry was loaded by the task that has its row
                let loaded = place
                    .effects()
                    .iter()
                    .filter(|line| line.starts_with("done"))
                    .count();
                assert!(
                    unsuccessful(&run).is_empty() && loaded >= 9,
                    "{}",
                    place.said()
                );
                let names: BTreeSet<String> = place
                    .rows()
                    .iter()
                    .filter_map(|row| Some(row.made()?.padding))
                    .collect();
                assert_eq!(
                    names,
                    (1..=9).map(|value| format!("table-{value}")).collect()
                );
            } else {
                assert!(!succeeds && run.state() == RunState::Failed, "{run:?}");
                let begins = format!("run {} recorded `load", run.id());
                assert!(
                    error.starts_with(&begins) && error.ends_with(CHANGED),
                    "{error}"
                );
                check_kept(&before, &recorded(&place));
            }
            place.check_integrity();
        }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Receipt(String);

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Invoice(String);

/// A receipt that has another form than those that are recorded.
mod numbered {
    #[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
    pub(super) struct Receipt {
        pub(super) number: u64,
    }
}

#[task]
async fn order(number: u64) -> u64 {
    number
}

#[task(name = "charge")]
async fn charge_with_receipt(order: u64) -> Receipt {
    Receipt(order.to_string())
}

#[task(name = "charge")]
async fn charge_with_invoice(order: u64) -> Invoice {
    Invoice(order.to_string())
}

#[task(name = "charge")]
async fn charge_with_numbered(order: u64) -> numbered::Receipt {
    numbered::Receipt { number: order }
}

#[task]
async fn ship() -> u64 {
    pause(1).await;
    1
}

fn is_changed(what: &str) -> bool {
    std::env::var(CHANGE).is_ok_and(|change| change == what)
}

#[flow(name = "crash_changing")]
fn changing() {
    let first = order(if is_changed("input") { 2 } else { 1 });
    let second = order(&first);
    let charged = if is_changed("upstream") {
        second
    } else {
        first
    };
    if is_changed("output") {
        ship().after(charge_with_invoice(charged));
    } else if is_changed("form") {
        ship().after(charge_with_numbered(charged));
    } else {
        ship().after(charge_with_receipt(charged));
    }
}

#[flow(name = "crash_changing_as_it_goes")]
async fn changing_as_it_goes() -> Result<u64> {
    let first = order(if is_changed("input") { 2 } else { 1 });
    let second = order(&first);
    first.clone().await?;
    let charged = if is_changed("upstream") {
        second
    } else {
        first
    };
    if is_changed("output") {
        charge_with_invoice(charged).await?;
    } else if is_changed("form") {
        charge_with_numbered(charged).await?;
    } else {
        charge_with_receipt(charged).await?;
    }
    Ok(ship().await?)
}

#[test]
fn changed_flow_fails_by_name_and_overwrites_nothing() {
    for (flow, name) in [
        ("static", "crash_changing"),
        ("async", "crash_changing_as_it_goes"),
    ] {
        for (change, expected) in [
            (
                "input",
                "run RUN recorded `order` as `order()`, but the flow now creates it with another `number`: CHANGED",
            ),
            (
                "upstream",
                "run RUN recorded `charge` as `charge(order)`, but the flow now creates `charge(order#2)`: CHANGED",
            ),
            (
                "output",
                "task `charge` returned an `Invoice`, but run RUN recorded a `Receipt`: CHANGED",
            ),
            (
                "form",
                "the result of task `charge` that run RUN recorded cannot be read as a `Receipt`: invalid type: string \"1\", \
                 expected struct Receipt; go back to the code that wrote it, or run the task again: `runs rerun RUN --from charge`",
            ),
        ] {
            let _case = crate::support::case(format_args!("{flow} {change}"));
            let place = Place::new(change);
            // the last of the four tasks was running
            place.dies("changed", &[(FLOW, flow)], "body-over", 4);
            let before = recorded(&place);
            assert_eq!(
                before
                    .1
                    .iter()
                    .filter(|row| row.state == TaskState::Success)
                    .count(),
                3,
                "{before:?}"
            );
            place.acts("resume", &[(CHANGE, change)]);
            let run = place.record(name);
            assert_eq!(run.state(), RunState::Failed);
            let error = run.error().map(ToString::to_string).unwrap_or_default();
            let expected = expected
                .replace("RUN", &run.id().to_string())
                .replace("CHANGED", CHANGED);
            assert_eq!(error, expected, "{flow}");
            check_kept(&before, &recorded(&place));
            place.check_integrity();
            // who comes later finds it as it was left
            let after = recorded(&place);
            place.acts("resume", &[]);
            assert_eq!(
                (place.record(name).state(), recorded(&place)),
                (RunState::Failed, after)
            );
        }
    }
}

#[test]
fn run_goes_on_with_the_code_that_started_it() {
    for (flow, name) in [
        ("static", "crash_changing"),
        ("async", "crash_changing_as_it_goes"),
    ] {
        for change in ["input", "upstream", "output"] {
            let _case = crate::support::case(format_args!("{flow} {change}"));
            let place = Place::new(change);
            place.dies("changed", &[(FLOW, flow)], "body-over", 4);
            let before = recorded(&place);
            // it dies when all but its end is recorded
            place.dies("resume", &[(CHANGE, change)], "run-end-recorded", 1);
            check_kept(&before, &recorded(&place));
            place.acts("resume", &[]);
            let run = place.record(name);
            assert_eq!(run.state(), RunState::Success, "{flow} {change}: {run:?}");
            assert_eq!(unsuccessful(&run), [""; 0], "{flow} {change}");
        }
    }
}
