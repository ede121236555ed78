//! Abandoned runs, and processes that take them over.

use super::*;

#[tokio::test]
async fn store_in_memory_has_no_abandoned_runs() {
    let store = MemoryStore::default();
    let log = started(&store, new_run("etl"), 1).await;
    assert!(ids(&store).await.is_empty());
    assert!(
        store
            .take_over_run(log.snapshot().id())
            .await
            .unwrap()
            .is_none()
    );
}

#[tokio::test]
async fn only_unfinished_runs_of_the_dead_are_abandoned() {
    on_each_durable(async |opened| {
        let alive = opened.reopen();
        let living = started(&*alive, new_run("etl"), 1).await;
        let dies = opened.reopen();
        let left = started(&*dies, new_run("etl"), 1).await;
        let pending = created(&*dies, new_run("etl")).await;
        let ended = started(&*dies, new_run("etl"), 1).await;
        finish(&*ended, 30, RunState::Failed).await;
        assert!(ids(&*opened.store).await.is_empty());
        drop(dies);
        self::left(&*opened.store, pending.snapshot().id()).await;
        assert_eq!(
            ids(&*opened.store).await,
            [left.snapshot().id(), pending.snapshot().id()]
        );
        for log in [&living, &ended] {
            assert!(
                opened
                    .store
                    .take_over_run(log.snapshot().id())
                    .await
                    .unwrap()
                    .is_none()
            );
        }
        assert!(
            opened
                .store
                .take_over_run(new_run("etl").id)
                .await
                .unwrap()
                .is_none()
        );
        take(&*opened.store, left.snapshot().id()).await;
        assert_eq!(ids(&*alive).await, [pending.snapshot().id()]);
        // not by itself either
        assert!(
            opened
                .store
                .take_over_run(left.snapshot().id())
                .await
                .unwrap()
                .is_none()
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_takeovers_have_one_winner() {
    on_each_durable(async |opened| {
        let takers: Vec<_> = (0..4).map(|_| opened.reopen()).collect();
        for round in 0..10 {
            let id = orphan(opened, new_run("etl")).await.snapshot().id();
            left(&*opened.store, id).await;
            let taking = takers.iter().cloned().map(|store| {
                tokio::spawn(async move { store.take_over_run(id).await.unwrap().is_some() })
            });
            let taken = futures_util::future::join_all(taking).await;
            let won = taken
                .into_iter()
                .filter(|taken| *taken.as_ref().unwrap())
                .count();
            assert_eq!(won, 1, "round {round}");
        }
    })
    .await;
}

#[tokio::test]
async fn process_that_lost_a_run_cannot_write_to_it() {
    on_each_durable(async |opened| {
        let dies = opened.reopen();
        let first = started(&*dies, new_run("etl"), 8).await;
        // while it owns another run, its process stays registered
        let _other = started(&*dies, new_run("etl"), 1).await;
        drop(dies);
        let id = first.snapshot().id();
        let taken = take(&*opened.store, id).await;
        let before = told(&opened.store.find_run(id).await.unwrap().unwrap());
        first.record(Transition::Task(success(0, b"late")));
        cache(&*first, 1, &query(1, 1, None), 50, b"late");
        first.record(Transition::Cancelling);
        let refused = first.commit().wait().await;
        assert_eq!(refused, Err(StoreError::RunLost { run: id }));
        finish_refused(&*first, id).await;
        assert_eq!(
            told(&opened.store.find_run(id).await.unwrap().unwrap()),
            before
        );
        assert_eq!(found(&*opened.store, &query(1, 1, None), 60).await, "Empty");
        taken.log.record(Transition::Task(success(0, b"in time")));
        finish(&*taken.log, 90, RunState::Success).await;
        let record = opened.reopen().find_run(id).await.unwrap().unwrap();
        assert_eq!(
            (
                record.state(),
                record.tasks().iter().next().unwrap().state()
            ),
            (RunState::Success, TaskState::Success)
        );
    })
    .await;

    async fn finish_refused(log: &dyn RunLog, id: RunId) {
        log.record(Transition::RunFinished(RunEnd {
            at: time(1),
            state: RunState::Failed,
            error: None,
            output: None,
            encoded: None,
        }));
        assert_eq!(
            log.commit().wait().await,
            Err(StoreError::RunLost { run: id })
        );
    }
}

#[tokio::test]
async fn history_has_results_await_order_and_cancelling() {
    on_each_durable(async |opened| {
        let log = orphan(opened, new_run("etl")).await;
        let id = log.snapshot().id();
        for cell in [2, 0, 1] {
            log.record(Transition::Task(success(cell, &[cell as u8; 3])));
            log.record(Transition::Awaited {
                node: NodeNumber::new(cell),
                known: None,
            });
        }
        log.record(Transition::Task(success(3, &[])));
        log.record(to(4, TaskState::Running));
        log.record(Transition::Cancelling);
        log.commit().wait().await.unwrap();
        let History {
            tables,
            mut results,
            await_order,
            takeovers,
            deaths,
            cancelling,
        } = take(&*opened.store, id).await.history;
        let deliveries = await_order.deliveries.iter();
        let awaited: Vec<u32> = deliveries.map(|delivery| delivery.node.get()).collect();
        assert_eq!(
            (awaited, takeovers, deaths, cancelling),
            (vec![2, 0, 1], 1, 1, true)
        );
        for cell in 0..3 {
            assert_eq!(
                results.remove(&row_place(0, cell)).unwrap().0[..],
                [cell as u8; 3]
            );
        }
        results.remove(&row_place(0, 3));
        assert!(results.is_empty());
        let states: Vec<TaskState> = tables.frames[FrameNumber::FLOW]
            .rows
            .iter()
            .map(Row::task_state)
            .collect();
        assert_eq!(
            states[..5],
            [
                TaskState::Success,
                TaskState::Success,
                TaskState::Success,
                TaskState::Success,
                TaskState::Running
            ]
        );
        assert_eq!(
            (tables.state, tables.started),
            (RunState::Running, Some(time(10)))
        );
    })
    .await;
}

#[tokio::test]
async fn takeovers_are_counted_until_a_node_ends() {
    on_each_durable(async |opened| {
        let id = orphan(opened, new_run("etl")).await.snapshot().id();
        /// How the process of an execution leaves the run.
        #[derive(PartialEq)]
        enum Leaves {
            Dies,
            Releases,
        }
        use Leaves::{Dies, Releases};
        let mut attempts = 0;
        let mut life = async |ends: Option<Transition>, leaves: Leaves| {
            let process = opened.reopen();
            let Takeover { log, history } = take(&*process, id).await;
            attempts += 1;
            log.record(Transition::Task(change(0, 0, TaskState::Running, attempts)));
            for transition in ends
                .into_iter()
                .chain((leaves == Releases).then_some(Transition::Released))
            {
                log.record(transition);
            }
            log.commit().wait().await.unwrap();
            history.takeovers
        };
        assert_eq!(life(None, Dies).await, 1);
        assert_eq!(life(None, Dies).await, 2);
        // after a clean stop, there is no dead process
        assert_eq!(life(None, Releases).await, 3);
        assert_eq!(life(None, Dies).await, 3);
        assert_eq!(life(Some(to(1, TaskState::Success)), Dies).await, 4);
        assert_eq!(life(Some(to(2, TaskState::Skipped)), Releases).await, 1);
        assert_eq!(life(None, Releases).await, 0);
        let retrying = TaskEnd::new(row_place(0, 3), cell_state(TaskState::Retrying, 20, 99), 1);
        assert_eq!(life(Some(Transition::Task(retrying)), Dies).await, 0);
        assert_eq!(life(None, Dies).await, 1);
        let record = opened.store.find_run(id).await.unwrap().unwrap();
        assert_eq!(record.tasks().iter().next().unwrap().crashes(), 8);
    })
    .await;
}

#[tokio::test]
async fn lone_start_is_charged_with_the_death_of_its_process_unless_it_was_stopping() {
    on_each_durable(async |opened| {
        let id = orphan(opened, new_run("etl")).await.snapshot().id();
        let starts = |attempt: u16| Transition::Task(change(0, 0, TaskState::Running, attempt));
        let starts_alone = |attempt: u16| {
            Transition::Task(TaskEnd {
                alone: true,
                ..change(0, 0, TaskState::Running, attempt)
            })
        };
        #[derive(Debug, PartialEq)]
        struct Counts {
            takeovers: u32,
            deaths: u32,
            charges: u8,
        }
        let counts = |takeovers, deaths, charges| Counts {
            takeovers,
            deaths,
            charges,
        };
        let life = async |transitions: Vec<Transition>| {
            let process = opened.reopen();
            let Takeover { log, history } = take(&*process, id).await;
            transitions
                .into_iter()
                .for_each(|transition| log.record(transition));
            log.commit().wait().await.unwrap();
            counts(
                history.takeovers,
                history.deaths,
                history.tables.charges(row_place(0, 0)),
            )
        };
        assert_eq!(life(vec![starts(1)]).await, counts(1, 1, 0));
        assert_eq!(life(vec![starts_alone(2)]).await, counts(2, 2, 0));
        assert_eq!(life(vec![starts_alone(3)]).await, counts(3, 3, 1));
        // the attempt is waiting when its process dies
        assert_eq!(life(vec![]).await, counts(4, 4, 2));
        // the charge is taken back: the process is stopped and ends while the task runs; a repeated
        // start counts once
        let stops = vec![starts_alone(4), starts(4), starts(4), Transition::Leaving];
        assert_eq!(life(stops).await, counts(5, 5, 2));
        assert_eq!(
            life(vec![
                starts_alone(5),
                starts(5),
                Transition::Leaving,
                Transition::Released
            ])
            .await,
            counts(5, 6, 2)
        );
        assert_eq!(life(vec![starts_alone(6)]).await, counts(5, 7, 2));
        assert_eq!(
            life(vec![to(0, TaskState::Retrying)]).await,
            counts(6, 8, 3)
        );
        assert_eq!(life(vec![]).await, counts(7, 9, 0));
    })
    .await;
}

#[tokio::test]
async fn resumed_run_keeps_its_numbers_and_records_nothing_twice() {
    on_each_durable(async |opened| {
        let head = new_run("etl");
        let log = orphan(opened, head.clone()).await;
        log.record(Transition::Task(success(0, b"once")));
        log.commit().wait().await.unwrap();
        let before = told(&log.snapshot());
        let Takeover { log, .. } = take(&*opened.store, head.id).await;
        assert_eq!(told(&log.snapshot()), before);
        // it reaches its recorded states again
        log.record(Transition::RunStarted { at: time(77) });
        log.record(Transition::Task(success(0, b"twice")));
        assert_eq!(told(&log.snapshot()), before);
        log.record(Transition::Planned(vec![node("more", None, 8)]));
        log.record(Transition::Task(success(8, b"new")));
        finish(&*log, 90, RunState::Success).await;
        let record = opened.reopen().find_run(head.id).await.unwrap().unwrap();
        assert_eq!(told(&record), told(&log.snapshot()));
        assert_eq!(record.task("more").unwrap().state(), TaskState::Success);
    })
    .await;
}
