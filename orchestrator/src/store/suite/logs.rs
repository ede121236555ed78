//! Log lines.

use super::*;

#[tokio::test]
async fn lines_of_logs_come_back_in_order_and_as_they_were() {
    on_each(async |opened| {
        let (first, second) = (new_run("etl"), new_run("etl"));
        let (one, two) = (first.id, second.id);
        let _logs = [started(&*opened.store, first, 1).await, started(&*opened.store, second, 1).await];
        let fields = serde_json::json!({ "n": 1, "x": 0.1, "yes": true, "text": "ä\u{0}\"", "big": u64::MAX });
        let full = LogLine {
            level: LogLevel::Error,
            message: "ä\u{0}\n".to_owned(),
            fields: fields.as_object().unwrap().clone(),
            task: Some("sub/load[7]".to_owned()),
            attempt: Some(3),
            map_index: Some(7),
            // without `..`: a field that does not come back is found by the compiler
            number: 0,
            at: line(one, "").at,
            target: "target".to_owned(),
            run: one,
        };
        let store = &opened.store;
        let mut mixed = vec![line(one, "a"), line(two, "b"), full.clone(), line(new_run("etl").id, "nobody's")];
        assert!(store.append_logs(&mut mixed, false).unwrap() && mixed.is_empty());
        assert!(store.append_logs(&mut vec![line(one, "c"), line(two, "d")], true).unwrap());
        let stores = [Some(Arc::clone(store)), store.is_durable().then(|| opened.reopen())];
        for store in stores.into_iter().flatten() {
            let lines = store.read_logs(one, 0, 10).await.unwrap();
            let expected = [line(one, "a"), full.clone(), line(one, "c")];
            let numbered = (1..).zip(expected).map(|(number, line)| LogLine { number, ..line });
            assert_eq!(lines, numbered.collect::<Vec<_>>());
            let messages = async |after, at_most| {
                let lines = store.read_logs(two, after, at_most).await.unwrap();
                lines.into_iter().map(|line| line.message).collect::<Vec<_>>()
            };
            assert_eq!(messages(0, 10).await, ["b", "d"]);
            assert_eq!(messages(0, 1).await, ["b"]);
            assert_eq!(messages(1, 10).await, ["d"]);
            assert_eq!(messages(2, 10).await, [""; 0]);
            assert_eq!(messages(u64::MAX, 10).await, [""; 0]);
            assert_eq!(store.read_logs(new_run("etl").id, 0, 10).await.unwrap(), []);
        }
    })
    .await;
}

#[tokio::test]
async fn lines_of_logs_go_with_the_tasks_of_their_run() {
    on_each(async |opened| {
        let store = &*opened.store;
        let (old, fresh) = (
            started(store, new_run("etl"), 1).await,
            started(store, new_run("etl"), 1).await,
        );
        // more lines than one step of a prune deletes
        let lines = |log: &Arc<dyn RunLog>| vec![line(log.snapshot().id(), "said"); 7_000];
        for log in [&old, &fresh] {
            assert!(store.append_logs(&mut lines(log), true).unwrap());
        }
        let left = async |log: &Arc<dyn RunLog>| {
            store
                .read_logs(log.snapshot().id(), 0, 20_000)
                .await
                .unwrap()
                .len()
        };
        finish(&*old, 99, RunState::Success).await;
        finish(&*fresh, 100, RunState::Success).await;
        assert_eq!((left(&old).await, left(&fresh).await), (7_000, 7_000));
        assert_eq!(
            store
                .prune_store(time(100), time(0), u64::MAX)
                .await
                .unwrap()
                .runs,
            1
        );
        // late lines are dropped
        assert!(store.append_logs(&mut lines(&old), true).unwrap());
        assert_eq!((left(&old).await, left(&fresh).await), (0, 7_000));
        assert_eq!(
            store
                .prune_store(time(101), time(0), u64::MAX)
                .await
                .unwrap()
                .runs,
            1
        );
        assert_eq!(left(&fresh).await, 0);
    })
    .await;
}
