//! Final runs that are run again.

use super::*;

#[tokio::test]
async fn a_run_that_is_run_again_adds_up_the_same_everywhere() {
    on_each(async |opened| {
        for seed in 0..20 {
            let _case = case(format_args!("seed {seed}"));
            let log = created(&*opened.store, new_run("etl")).await;
            let id = log.snapshot().id();
            assert!(
                opened
                    .store
                    .reopen_run(id, &Rerun::All, time(80))
                    .await
                    .unwrap()
                    .is_none()
            );
            a_long_life(seed, id)
                .into_iter()
                .for_each(|transition| log.record(transition));
            finish(&*log, 6_500, RunState::Failed).await;
            let before = log.snapshot();
            let Takeover {
                log: again,
                history,
            } = opened
                .store
                .reopen_run(id, &Rerun::All, time(7_000))
                .await
                .unwrap()
                .expect("it is final");
            assert!(
                opened
                    .store
                    .reopen_run(id, &Rerun::All, time(7_001))
                    .await
                    .unwrap()
                    .is_none()
            );
            assert_eq!(
                (history.takeovers, history.cancelling, history.results.len()),
                (0, false, 0)
            );
            // the process that finished it can no longer write to it
            log.record(Transition::RunStarted { at: time(7_001) });
            let read = opened.store.find_run(id).await.unwrap().unwrap();
            for record in [&read, &again.snapshot(), &RunRecord::from(history.tables)] {
                assert_eq!(
                    (
                        record.state(),
                        record.started_at(),
                        record.error().is_none()
                    ),
                    (RunState::Pending, None, true)
                );
                assert_eq!(
                    (record.reruns().len(), &record.reruns()[0].what),
                    (1, &Rerun::All)
                );
                // lists are computed anew in each execution
                let shown: Vec<_> = before
                    .tasks()
                    .iter()
                    .filter(|task| !task.name().starts_with("expand("))
                    .collect();
                assert_eq!(record.tasks().len(), shown.len());
                for (task, old) in record.tasks().iter().zip(shown) {
                    assert_eq!((task.key(), task.state()), (old.key(), TaskState::Pending));
                    assert_eq!(
                        (task.attempts(), task.crashes()),
                        (old.attempts(), old.crashes())
                    );
                    assert!(
                        task.error().is_none()
                            && task.cached_from().is_none()
                            && task.started_at().is_none()
                    );
                }
            }
            again.record(Transition::RunStarted { at: time(7_100) });
            // it has the same lists, except one
            again.record(Transition::Expanded(expanded(2, (1, 1), 3)));
            again.record(Transition::Task(change(6, 2, TaskState::Success, 1)));
            let attempts = u16::try_from(before.task("first").unwrap().attempts()).unwrap() + 1;
            again.record(Transition::Task(change(0, 0, TaskState::Success, attempts)));
            finish(&*again, 7_200, RunState::Success).await;
            let read = opened.store.find_run(id).await.unwrap().unwrap();
            assert_eq!(told(&read), told(&again.snapshot()));
            // an element that was not requested again is not shown
            assert_eq!(
                read.tasks()
                    .iter()
                    .map(|task| task.key())
                    .collect::<Vec<_>>(),
                ["first", "each[1][2]"]
            );
            let attempts = opened.store.read_attempts(id).await.unwrap().unwrap();
            assert!(
                attempts
                    .iter()
                    .filter(|attempt| attempt.key == "first")
                    .count()
                    >= 2
            );
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_reopens_have_one_winner() {
    on_each_durable(async |opened| {
        let stores: Vec<_> = (0..4).map(|_| opened.reopen()).collect();
        let log = started(&*opened.store, new_run("etl"), 3).await;
        let id = log.snapshot().id();
        finish(&*log, 30, RunState::Failed).await;
        let reopening = stores.iter().cloned().map(|store| {
            tokio::spawn(async move { store.reopen_run(id, &Rerun::All, time(40)).await.unwrap() })
        });
        let reopened = futures_util::future::join_all(reopening).await;
        let won: Vec<_> = reopened
            .into_iter()
            .filter_map(|reopened| reopened.unwrap())
            .collect();
        assert_eq!(won.len(), 1);
        finish(&*won[0].log, 50, RunState::Success).await;
        let record = opened.store.find_run(id).await.unwrap().unwrap();
        assert_eq!(
            (record.reruns().len(), record.state()),
            (1, RunState::Success)
        );
    })
    .await;
}
