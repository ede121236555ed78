//! State that serving processes share.

use super::*;
use crate::deployment::samples::spec;
use crate::deployment::{DeploymentKey, DeploymentRecord, DeploymentSpec};
use crate::flow::Missed;
use crate::schedule::Schedule;

fn dated(flow: &str, kind: RunKind, second: i64) -> NewRun {
    of_tick(flow, kind, second * 1_000_000)
}

#[tokio::test]
async fn lists_hold_the_matching_runs_in_order() {
    on_each(async |opened| {
        let store = &*opened.store;
        for second in 1..=4 {
            let kind = if second % 2 == 0 {
                RunKind::Backfill
            } else {
                RunKind::Scheduled
            };
            let log = started(store, dated("a", kind, second), 1).await;
            if second < 3 {
                finish(
                    &*log,
                    50,
                    if second == 1 {
                        RunState::Success
                    } else {
                        RunState::Failed
                    },
                )
                .await;
            }
        }
        created(store, dated("b", RunKind::Manual, 9)).await;
        let at = |second: i64| DateTime::from_timestamp(second, 0).unwrap();
        let listed = async |filter: RunFilter| {
            let runs = store.find_runs(&filter).await.unwrap();
            runs.iter()
                .map(|run| run.logical_date.timestamp())
                .collect::<Vec<_>>()
        };
        let of_a = || RunFilter::new().flow("a");
        assert_eq!(listed(RunFilter::new()).await, [9, 4, 3, 2, 1]);
        assert_eq!(listed(of_a().oldest_first()).await, [1, 2, 3, 4]);
        assert_eq!(listed(of_a().limit(2)).await, [4, 3]);
        assert_eq!(listed(of_a().oldest_first().limit(1)).await, [1]);
        assert_eq!(listed(of_a().kind(RunKind::Backfill)).await, [4, 2]);
        assert_eq!(
            listed(
                RunFilter::new()
                    .kind(RunKind::Manual)
                    .kind(RunKind::Backfill)
            )
            .await,
            [9, 4, 2]
        );
        assert_eq!(listed(of_a().unfinished()).await, [4, 3]);
        assert_eq!(
            listed(of_a().state(RunState::Success).state(RunState::Failed)).await,
            [2, 1]
        );
        assert_eq!(listed(of_a().since(at(2)).until(at(3))).await, [3, 2]);
        assert_eq!(
            listed(of_a().kind(RunKind::Scheduled).since(at(2))).await,
            [3]
        );
        assert!(listed(RunFilter::new().flow("c")).await.is_empty());
        let first = &store
            .find_runs(&of_a().oldest_first().limit(1))
            .await
            .unwrap()[0];
        let record = store.find_run(first.id).await.unwrap().unwrap();
        assert_eq!(format!("{first:?}"), format!("{:?}", record.summary()));
    })
    .await;
}

#[tokio::test]
async fn paused_flow_gets_no_scheduled_runs_and_other_runs_as_before() {
    on_each(async |opened| {
        let store = &*opened.store;
        assert!(store.pause_flow("a", time(7)).await.unwrap());
        assert!(!store.pause_flow("a", time(8)).await.unwrap());
        assert_eq!(
            store.list_paused().await.unwrap(),
            [("a".to_owned(), time(7))]
        );
        assert_eq!(store.read_serving_state().await.unwrap().paused, ["a"]);
        let paused = store
            .create_run(dated("a", RunKind::Scheduled, 1), None)
            .await
            .unwrap();
        assert!(matches!(paused, RunCreation::Paused));
        created(store, dated("a", RunKind::Backfill, 2)).await;
        created(store, dated("a", RunKind::Manual, 1)).await;
        created(store, dated("b", RunKind::Scheduled, 1)).await;
        // a tick that has its run is reported as taken, even if its flow is paused
        let taken = store
            .create_run(dated("a", RunKind::Scheduled, 2), None)
            .await
            .unwrap();
        assert!(matches!(taken, RunCreation::Taken(_)));
        assert!(store.unpause_flow("a", None, time(9)).await.unwrap());
        assert!(!store.unpause_flow("a", None, time(9)).await.unwrap());
        created(store, dated("a", RunKind::Scheduled, 1)).await;
        assert_eq!(store.list_paused().await.unwrap(), []);
    })
    .await;
}

fn report(name: Option<&str>, cron: &str) -> DeploymentSpec {
    let mut spec = spec(&[Schedule::cron(cron).unwrap()], "EU");
    spec.key.name = name.map(Arc::from);
    spec
}

/// Returns the name of each deployment on record, its version and how far its ticks are decided.
async fn listed(store: &dyn Store, flow: Option<&str>) -> Vec<(String, i64, i64)> {
    let records = store.list_deployments(flow).await.unwrap();
    let row = |record: &DeploymentRecord| {
        let decided = record.decided.timestamp_micros();
        (
            record.key.column().to_owned(),
            record.version.get(),
            decided,
        )
    };
    records.iter().map(row).collect()
}

#[tokio::test]
async fn deployment_progress_only_grows_and_only_under_its_version() {
    on_each(async |opened| {
        let store = &*opened.store;
        let (default, eu) = (report(None, "@daily"), report(Some("eu"), "@daily"));
        let first = store.put_in_force(&eu, time(10)).await.unwrap().version;
        store.put_in_force(&default, time(11)).await.unwrap();
        let named = |version, decided| ("eu".to_owned(), version, decided);
        let unnamed = (String::new(), 1, 11);
        assert_eq!(listed(store, None).await, [unnamed.clone(), named(1, 10)]);
        assert_eq!(listed(store, Some("report")).await.len(), 2);
        assert_eq!(listed(store, Some("other")).await, []);
        store.record_progress(&eu.key, first, time(30));
        store.record_progress(&eu.key, first, time(20));
        store.flush_writes().await.unwrap();
        assert_eq!(listed(store, None).await, [unnamed.clone(), named(1, 30)]);
        // other schedules come into force: what the earlier ones decide no longer counts
        let hourly = report(Some("eu"), "@hourly");
        let second = store.put_in_force(&hourly, time(40)).await.unwrap();
        assert_eq!((second.version, second.segments.len()), (first.next(), 2));
        store.record_progress(&eu.key, first, time(50));
        store.rewind_progress(&[(eu.key.clone(), first)], time(5));
        store.flush_writes().await.unwrap();
        assert_eq!(listed(store, None).await, [unnamed.clone(), named(2, 30)]);
        store.record_progress(&eu.key, second.version, time(60));
        store.rewind_progress(&[(eu.key.clone(), second.version)], time(45));
        store.flush_writes().await.unwrap();
        assert_eq!(listed(store, None).await, [unnamed.clone(), named(2, 45)]);
        let same = store.put_in_force(&hourly, time(70)).await.unwrap();
        assert_eq!(same.version, second.version);
        assert!(store.remove_deployment(&eu.key).await.unwrap());
        assert!(!store.remove_deployment(&eu.key).await.unwrap());
        assert_eq!(listed(store, None).await, [unnamed]);
    })
    .await;
    on_each_durable(async |opened| {
        let eu = report(Some("eu"), "@daily");
        let record = opened.store.put_in_force(&eu, time(10)).await.unwrap();
        let reopened = opened.reopen();
        let again = reopened.put_in_force(&eu, time(99)).await.unwrap();
        assert_eq!(format!("{again:?}"), format!("{record:?}"));
    })
    .await;
}

#[tokio::test]
async fn run_of_a_tick_is_created_only_under_the_version_in_force() {
    on_each(async |opened| {
        let store = &*opened.store;
        let of = |second: i64, name: Option<&str>| NewRun {
            deployment: name.map(Arc::from),
            ..dated("report", RunKind::Scheduled, second)
        };
        let daily = report(None, "@daily");
        let first = store.put_in_force(&daily, time(10)).await.unwrap().version;
        let created_as = |creation: RunCreation| match creation {
            RunCreation::New(_) => "new",
            RunCreation::Taken(_) => "taken",
            RunCreation::Paused => "paused",
            RunCreation::Superseded => "superseded",
        };
        let creation =
            async |run, version| created_as(store.create_run(run, Some(version)).await.unwrap());
        assert_eq!(creation(of(1, None), first).await, "new");
        // of another deployment the tick is another one, and that is not on record
        assert_eq!(creation(of(1, Some("eu")), first).await, "superseded");
        let hourly = report(None, "@hourly");
        let second = store.put_in_force(&hourly, time(20)).await.unwrap().version;
        assert_eq!(creation(of(2, None), first).await, "superseded");
        // also if the process of the new version was faster
        assert_eq!(creation(of(1, None), first).await, "superseded");
        assert_eq!(creation(of(1, None), second).await, "taken");
        assert_eq!(creation(of(2, None), second).await, "new");
        assert!(store.pause_flow("report", time(30)).await.unwrap());
        assert_eq!(creation(of(3, None), second).await, "paused");
        // a backfill is not bound to what is in force, and one deployment's ticks are its own
        let eu = NewRun {
            kind: RunKind::Backfill,
            ..of(1, Some("eu"))
        };
        created(store, eu.clone()).await;
        let again = NewRun {
            id: new_run("report").id,
            ..eu
        };
        let again = store.create_run(again, None).await.unwrap();
        assert_eq!(created_as(again), "taken");
        let named = RunFilter::new().deployment("eu");
        let runs = store.find_runs(&named).await.unwrap();
        assert_eq!(runs.len(), 1);
        assert_eq!(runs[0].deployment.as_deref(), Some("eu"));
        let default = RunFilter::new().default_deployment();
        assert_eq!(store.find_runs(&default).await.unwrap().len(), 2);
    })
    .await;
}

#[tokio::test]
async fn previous_run_is_that_of_the_last_tick_before_which_has_one() {
    on_each(async |opened| {
        let store = &*opened.store;
        let of = |kind, second, name: Option<&str>| NewRun {
            deployment: name.map(Arc::from),
            ..dated("a", kind, second)
        };
        let key = |flow: &'static str, name: Option<&str>| DeploymentKey {
            flow: flow.into(),
            name: name.map(Arc::from),
        };
        let previous = async |key: DeploymentKey, second: i64| {
            let before = time(second * 1_000_000);
            store.find_previous(&key, before).await.unwrap()
        };
        let default = || key("a", None);
        assert_eq!(previous(default(), 9).await, None);
        let first = created(store, of(RunKind::Scheduled, 1, None)).await;
        let third = created(store, of(RunKind::Backfill, 3, None)).await;
        let eu = created(store, of(RunKind::Scheduled, 4, Some("eu"))).await;
        // runs by hand are of no tick, and other flows and deployments have their own
        created(store, of(RunKind::Manual, 4, None)).await;
        created(store, dated("b", RunKind::Scheduled, 4)).await;
        let found = |log: &Arc<dyn RunLog>, state| {
            let id = log.snapshot().id();
            Some(PreviousRun { id, state })
        };
        let pending = RunState::Pending;
        for (second, expected) in [
            (1, None),
            (2, found(&first, pending)),
            (3, found(&first, pending)),
            (4, found(&third, pending)),
            (9, found(&third, pending)),
        ] {
            assert_eq!(previous(default(), second).await, expected, "{second}");
        }
        assert_eq!(previous(key("a", Some("eu")), 9).await, found(&eu, pending));
        assert_eq!(previous(key("a", Some("us")), 9).await, None);
        assert_eq!(previous(key("c", None), 9).await, None);
        for state in [RunState::Failed, RunState::Cancelled, RunState::Success] {
            let log = created(store, of(RunKind::Scheduled, 10 + state as i64, None)).await;
            finish(&*log, 50, state).await;
            assert_eq!(
                previous(default(), 11 + state as i64).await,
                found(&log, state)
            );
        }
    })
    .await;
}

#[tokio::test]
async fn choice_at_the_end_of_a_pause_is_recorded() {
    on_each(async |opened| {
        let store = &*opened.store;
        let spec = report(None, "@hourly");
        store.put_in_force(&spec, time(10)).await.unwrap();
        let choose = async |missed| {
            store
                .unpause_flow("report", missed, time(50))
                .await
                .unwrap()
        };
        assert!(!choose(Some(Missed::None)).await, "it was not paused");
        assert_eq!(listed(store, None).await, [(String::new(), 1, 10)]);
        store.pause_flow("report", time(20)).await.unwrap();
        assert!(choose(Some(Missed::All)).await);
        let record = &store.list_deployments(None).await.unwrap()[0];
        let choices: Vec<_> = record
            .segments
            .iter()
            .map(|segment| segment.missed)
            .collect();
        assert_eq!(choices, [Some(Missed::All), None]);
        store.pause_flow("report", time(20)).await.unwrap();
        assert!(choose(Some(Missed::None)).await);
        let record = &store.list_deployments(None).await.unwrap()[0];
        assert_eq!(
            (record.decided.timestamp_micros(), record.segments.len()),
            (50, 1)
        );
    })
    .await;
}

#[tokio::test]
async fn turns_are_those_of_all_living_processes() {
    on_each_durable(async |opened| {
        let store = &*opened.store;
        let other = opened.reopen();
        let of = |kind| {
            move |flow: &str| NewRun {
                kind,
                ..dated(flow, kind, kind as i64 + 1)
            }
        };
        let (first, second) = (new_run("a"), new_run("a"));
        let (one, two) = (first.id, second.id);
        let log = created(store, first).await;
        let others = created(&*other, second).await;
        let backfill = created(&*other, of(RunKind::Backfill)("a")).await;
        assert!(
            other
                .claim_turn(backfill.snapshot().id(), "a", 1, time(5))
                .await
                .unwrap()
        );
        // runs of backfills and of other flows do not count
        assert!(store.claim_turn(one, "a", 1, time(5)).await.unwrap());
        assert!(
            store.claim_turn(one, "a", 1, time(6)).await.unwrap(),
            "it has its turn already"
        );
        assert!(!other.claim_turn(two, "a", 1, time(5)).await.unwrap());
        assert!(other.claim_turn(two, "a", 2, time(5)).await.unwrap());
        drop(others);
        let waiting = new_run("a");
        let waits = waiting.id;
        created(store, waiting).await;
        assert!(!store.claim_turn(waits, "a", 2, time(5)).await.unwrap());
        // a dead process holds no slot
        drop((backfill, other));
        assert!(store.claim_turn(waits, "a", 2, time(5)).await.unwrap());
        finish(&*log, 50, RunState::Success).await;
        let record = store.find_run(waits).await.unwrap().unwrap();
        assert_eq!(record.state(), RunState::Running);
        assert_eq!(record.started_at(), DateTime::from_timestamp_micros(5));
    })
    .await;
}

#[tokio::test]
async fn executing_process_learns_of_a_cancel_request() {
    on_each_durable(async |opened| {
        let store = &*opened.store;
        let other = opened.reopen();
        let log = started(store, new_run("a"), 1).await;
        let id = log.snapshot().id();
        assert_eq!(store.find_cancel_requests().await.unwrap(), []);
        assert!(other.request_cancel(id).await.unwrap());
        assert_eq!(other.find_cancel_requests().await.unwrap(), []);
        assert_eq!(store.find_cancel_requests().await.unwrap(), [id]);
        finish(&*log, 50, RunState::Cancelled).await;
        assert_eq!(store.find_cancel_requests().await.unwrap(), []);
        assert!(!other.request_cancel(id).await.unwrap());
        assert!(!other.request_cancel(new_run("a").id).await.unwrap());
    })
    .await;
}

#[tokio::test]
async fn submitted_run_is_there_for_any_serving_process() {
    on_each_durable(async |opened| {
        let store = &*opened.store;
        let run = NewRun {
            key: Some("k".to_owned()),
            ..new_run("a")
        };
        let id = run.id;
        assert!(store.submit_run(run).await.unwrap().is_none());
        let taken = store
            .submit_run(NewRun {
                key: Some("k".to_owned()),
                ..new_run("a")
            })
            .await
            .unwrap();
        assert_eq!(taken.map(|run| run.id()), Some(id));
        let other = opened.reopen();
        let abandoned = other.read_serving_state().await.unwrap().abandoned;
        assert_eq!(abandoned.iter().map(|run| run.id).collect::<Vec<_>>(), [id]);
        let taken = other.take_over_run(id).await.unwrap().unwrap();
        assert_eq!(taken.history.takeovers, 0, "nobody died with it");
        assert!(
            store
                .read_serving_state()
                .await
                .unwrap()
                .abandoned
                .is_empty()
        );
    })
    .await;
}
