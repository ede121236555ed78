//! State that serving processes share.

use super::*;

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
        assert!(store.set_paused("a", true, time(7)).await.unwrap());
        assert!(!store.set_paused("a", true, time(8)).await.unwrap());
        assert_eq!(
            store.list_paused().await.unwrap(),
            [("a".to_owned(), time(7))]
        );
        assert_eq!(store.read_serving_state().await.unwrap().paused, ["a"]);
        let paused = store
            .create_run(dated("a", RunKind::Scheduled, 1))
            .await
            .unwrap();
        assert!(matches!(paused, RunCreation::Paused));
        created(store, dated("a", RunKind::Backfill, 2)).await;
        created(store, dated("a", RunKind::Manual, 1)).await;
        created(store, dated("b", RunKind::Scheduled, 1)).await;
        // a tick that has its run is reported as taken, even if its flow is paused
        let taken = store
            .create_run(dated("a", RunKind::Scheduled, 2))
            .await
            .unwrap();
        assert!(matches!(taken, RunCreation::Taken(_)));
        assert!(store.set_paused("a", false, time(9)).await.unwrap());
        assert!(!store.set_paused("a", false, time(9)).await.unwrap());
        created(store, dated("a", RunKind::Scheduled, 1)).await;
        assert_eq!(store.list_paused().await.unwrap(), []);
    })
    .await;
}

#[tokio::test]
async fn schedule_progress_only_grows() {
    on_each(async |opened| {
        let store = &*opened.store;
        let key = |flow, schedule: &str| ScheduleKey {
            flow,
            schedule: schedule.to_owned(),
        };
        let keys = [key("a", "@daily"), key("a", "@hourly"), key("b", "@daily")];
        assert_eq!(
            store.read_progress(&keys, time(10)).await.unwrap(),
            [10, 10, 10].map(time)
        );
        store.record_progress(&keys[0], time(30));
        store.record_progress(&keys[0], time(20));
        store.record_progress(&keys[2], time(5));
        // the decision is ahead of this in the queue
        assert_eq!(
            store.read_progress(&keys, time(99)).await.unwrap(),
            [30, 10, 10].map(time)
        );
    })
    .await;
    on_each_durable(async |opened| {
        let key = ScheduleKey {
            flow: "a",
            schedule: "@daily".to_owned(),
        };
        opened
            .store
            .read_progress(std::slice::from_ref(&key), time(10))
            .await
            .unwrap();
        assert_eq!(
            opened
                .reopen()
                .read_progress(&[key], time(99))
                .await
                .unwrap(),
            [time(10)]
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
