//! Records of runs, and lists of them.

use super::*;

#[tokio::test]
async fn a_record_has_all_that_was_asked_for() {
    on_each(async |opened| {
        let micros = |micros| DateTime::from_timestamp_micros(micros).unwrap();
        let parameters =
            serde_json::json!({ "n": 1, "x": 0.1, "list": ["a", null], "text": "ä\u{0}\"" });
        let run = NewRun {
            kind: RunKind::Backfill,
            key: Some("2026 / ä".to_owned()),
            logical_date: micros(-5),
            interval: Interval {
                start: micros(-86_400_000_001),
                end: micros(1_767_225_600_123_456),
            },
            parameters: parameters.as_object().unwrap().clone(),
            refresh_cache: true,
            created: micros(77),
            ..new_run("etl")
        };
        let asked = told(&RunRecord::from(RunTables::new(Arc::new(run.clone()))));
        let log = created(&*opened.store, run.clone()).await;
        assert_eq!(told(&log.snapshot()), asked);
        let mut stores = vec![Arc::clone(&opened.store)];
        stores.extend(opened.store.is_durable().then(|| opened.reopen()));
        for store in stores {
            assert_eq!(told(&store.find_run(run.id).await.unwrap().unwrap()), asked);
            assert_eq!(told(&store.list_runs("etl").await.unwrap()[0]), asked);
            assert_eq!(
                store
                    .find_run(new_run("etl").id)
                    .await
                    .unwrap()
                    .map(|run| run.id()),
                None
            );
            assert!(store.list_runs("other").await.unwrap().is_empty());
        }
    })
    .await;
}

#[tokio::test]
async fn numbers_of_parameters_come_back_to_the_last_bit() {
    on_each_durable(async |opened| {
        let mut random = Random(5);
        let numbers: Vec<f64> = (0..2_000)
            .map(|_| {
                f64::from_bits(
                    random.below(1 << 31) << 33 | random.below(1 << 31) << 2 | random.below(4),
                )
            })
            .filter(|number| number.is_finite())
            .collect();
        let parameters = serde_json::json!({ "numbers": numbers });
        let run = NewRun {
            parameters: parameters.as_object().unwrap().clone(),
            ..new_run("etl")
        };
        created(&*opened.store, run.clone()).await;
        let read = opened.store.find_run(run.id).await.unwrap().unwrap();
        assert!(*read.parameters() == run.parameters);
    })
    .await;
}

#[tokio::test]
async fn runs_are_listed_in_order_of_acceptance() {
    on_each(async |opened| {
        let mut asked = Vec::new();
        for number in 0..20 {
            let flow = if number % 3 == 0 { "other" } else { "etl" };
            let run = new_run(flow);
            asked.extend((flow == "etl").then_some(run.id));
            created(&*opened.store, run).await;
        }
        let ids = |runs: Vec<RunRecord>| runs.iter().map(RunRecord::id).collect::<Vec<_>>();
        assert_eq!(ids(opened.store.list_runs("etl").await.unwrap()), asked);
    })
    .await;
}

#[tokio::test]
async fn transitions_add_up_the_same_in_every_store() {
    for seed in 0..20 {
        let _case = case(format_args!("seed {seed}"));
        let (head, other) = (new_run("etl"), new_run("etl").id);
        let mut expected: Option<[Vec<String>; 2]> = None;
        on_each(async |opened| {
            let log = created(&*opened.store, head.clone()).await;
            for transition in a_long_life(seed, other) {
                log.record(transition);
                if seed % 2 == 0 {
                    log.commit().wait().await.unwrap();
                }
            }
            log.commit().wait().await.unwrap();
            let mut lives = [told(&log.snapshot()), Vec::new()];
            check(opened, &log, &lives[0]).await;
            let value = Value::new(7_u32);
            log.record(Transition::RunFinished(RunEnd {
                at: time(9_000),
                state: RunState::Failed,
                error: Some(TaskError::new(Cause::Panicked, "all in all")),
                encoded: log.encode(&value).unwrap(),
                output: Some(ResultValue::Live(value)),
            }));
            log.commit().wait().await.unwrap();
            // nothing is recorded after the end
            log.record(to(0, TaskState::Cancelled));
            log.commit().wait().await.unwrap();
            lives[1] = told(&log.snapshot());
            check(opened, &log, &lives[1]).await;
            assert_eq!(
                expected.get_or_insert_with(|| lives.clone()),
                &lives,
                "seed {seed}"
            );
        })
        .await;
    }

    async fn check(opened: &Opened, log: &Arc<dyn RunLog>, expected: &[String]) {
        let id = log.snapshot().id();
        assert_eq!(
            told(&opened.store.find_run(id).await.unwrap().unwrap()),
            expected
        );
        if opened.store.is_durable() {
            assert_eq!(
                told(&opened.reopen().find_run(id).await.unwrap().unwrap()),
                expected
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn there_is_one_run_for_each_flow_and_key() {
    on_each(async |opened| {
        let asking = (0..64).map(|_| {
            let store = Arc::clone(&opened.store);
            tokio::spawn(async move {
                let run = keyed("etl", "monday");
                let id = run.id;
                match store.create_run(run, None).await.unwrap() {
                    RunCreation::New(_) => (id, true),
                    RunCreation::Taken(record) => (record.id(), false),
                    RunCreation::Paused | RunCreation::Superseded => panic!("its flow is paused"),
                }
            })
        });
        let asked = futures_util::future::join_all(asking).await;
        let asked: Vec<(RunId, bool)> = asked.into_iter().map(Result::unwrap).collect();
        assert_eq!(asked.iter().filter(|(_, is_new)| *is_new).count(), 1);
        assert!(asked.iter().all(|(id, _)| *id == asked[0].0));
        created(&*opened.store, keyed("etl", "tuesday")).await;
        created(&*opened.store, keyed("other", "monday")).await;
        created(&*opened.store, new_run("etl")).await;
        assert_eq!(opened.store.list_runs("etl").await.unwrap().len(), 3);
    })
    .await;
}

#[tokio::test]
async fn there_is_one_run_for_each_flow_and_tick_and_none_for_runs_by_hand() {
    on_each(async |opened| {
        let store = &*opened.store;
        let first = of_tick("etl", RunKind::Scheduled, 60);
        let id = first.id;
        created(store, of_tick("etl", RunKind::Manual, 60)).await;
        created(store, first).await;
        assert_eq!(
            taken(store, of_tick("etl", RunKind::Scheduled, 60)).await,
            id
        );
        assert_eq!(
            taken(store, of_tick("etl", RunKind::Backfill, 60)).await,
            id
        );
        created(store, of_tick("etl", RunKind::Manual, 60)).await;
        created(store, of_tick("etl", RunKind::Backfill, 61)).await;
        created(store, of_tick("other", RunKind::Scheduled, 60)).await;
        // a key takes precedence over a tick
        let by_key = NewRun {
            key: Some("k".to_owned()),
            ..of_tick("etl", RunKind::Scheduled, 62)
        };
        let id_of_key = by_key.id;
        created(store, by_key).await;
        let both = NewRun {
            key: Some("k".to_owned()),
            ..of_tick("etl", RunKind::Scheduled, 60)
        };
        assert_eq!(taken(store, both).await, id_of_key);
        let new_key = NewRun {
            key: Some("new".to_owned()),
            ..of_tick("etl", RunKind::Scheduled, 60)
        };
        assert_eq!(taken(store, new_key).await, id);
        assert_eq!(opened.store.list_runs("etl").await.unwrap().len(), 5);
    })
    .await;
}

#[tokio::test]
async fn old_runs_lose_their_tasks_and_nothing_else() {
    on_each(async |opened| {
        let store = &*opened.store;
        let old = started(store, keyed("etl", "old"), 3).await;
        let fresh = started(store, keyed("etl", "fresh"), 3).await;
        let running = started(store, new_run("etl"), 3).await;
        for (log, at) in [(&old, 99), (&fresh, 100)] {
            log.record(Transition::Task(success(0, b"result")));
            finish(&**log, at, RunState::Failed).await;
        }
        let prune = || store.prune_store(time(100), time(0), u64::MAX);
        assert_eq!(prune().await.unwrap(), Pruned { runs: 1, cached: 0 });
        assert_eq!(prune().await.unwrap(), Pruned::default());
        let runs = store.list_runs("etl").await.unwrap();
        let kept: Vec<(bool, usize)> = runs
            .iter()
            .map(|run| (run.is_pruned(), run.tasks().len()))
            .collect();
        assert_eq!(kept, [(true, 0), (false, 3), (false, 3)]);
        assert_eq!(
            (runs[0].state(), runs[0].key(), runs[0].finished_at()),
            (RunState::Failed, Some("old"), old.snapshot().finished_at())
        );
        assert_eq!(taken(store, keyed("etl", "old")).await, old.snapshot().id());
        running.record(Transition::Task(success(0, b"result")));
        finish(&*running, 200, RunState::Success).await;
    })
    .await;
}
