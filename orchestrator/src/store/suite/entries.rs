//! Lists of what is cached, runs by their ids, and the store as a whole.

use super::*;

async fn listed(store: &dyn Store, filter: CacheFilter, now: i64) -> Vec<String> {
    let entries = store.list_cached(&filter, time(now)).await.unwrap();
    let told = |entry: CacheEntry| {
        let expires = entry
            .expires_at
            .map_or("never".to_owned(), |at| at.timestamp_micros().to_string());
        format!(
            "{} {} at {} until {expires}",
            entry.task,
            &entry.key[..4],
            entry.created_at.timestamp_micros()
        )
    };
    entries.into_iter().map(told).collect()
}

/// Creates the query for a result of a task, with a key that begins with a byte.
fn of_task(task: &str, key: u8, expiry: Option<u64>) -> CacheQuery {
    CacheQuery {
        task: task.into(),
        ..query(key, key, expiry)
    }
}

async fn with_entries(store: &dyn Store) -> RunId {
    let log = started(store, new_run("flow"), 3).await;
    cache(&*log, 0, &of_task("a::b::score", 0x1a, None), 20, b"\x01");
    cache(&*log, 1, &of_task("a::score", 0x2b, Some(5)), 10, b"\x02");
    cache(
        &*log,
        2,
        &of_task("a::other_score", 0x2c, Some(7_000_000)),
        30,
        b"\x03",
    );
    finish(&*log, 40, RunState::Success).await;
    log.snapshot().id()
}

#[tokio::test]
async fn cached_results_are_listed_by_task_and_age() {
    on_each(async |opened| {
        let store = &*opened.store;
        let run = with_entries(store).await;
        let all = listed(store, CacheFilter::new(), 0).await;
        assert_eq!(all.len(), 3);
        assert!(all.is_sorted(), "{all:?}");
        assert_eq!(all[0], "a::b::score 1a1a at 20 until never");
        let of_score = listed(store, CacheFilter::new().task("score"), 0).await;
        assert_eq!(
            of_score.len(),
            2,
            "`_` is no wildcard, and the name is whole: {of_score:?}"
        );
        assert_eq!(
            listed(store, CacheFilter::new().task("b::score"), 0)
                .await
                .len(),
            1
        );
        assert_eq!(listed(store, CacheFilter::new().key("2"), 0).await.len(), 2);
        assert_eq!(
            listed(store, CacheFilter::new().key("2B2b"), 0).await.len(),
            1
        );
        let expired = listed(store, CacheFilter::new().expired(), 20).await;
        assert!(
            expired.iter().all(|entry| entry.starts_with("a::score")),
            "{expired:?}"
        );
        let entries = store
            .list_cached(&CacheFilter::new(), time(0))
            .await
            .unwrap();
        assert!(
            entries
                .iter()
                .all(|entry| entry.run == run && entry.key.len() == 64 && entry.inputs.len() == 64)
        );
    })
    .await;
}

#[tokio::test]
async fn forgotten_result_is_computed_again() {
    on_each(async |opened| {
        let store = &*opened.store;
        with_entries(store).await;
        assert_eq!(
            store
                .forget_cached(&CacheFilter::new().key("1a"), time(0))
                .await
                .unwrap(),
            1
        );
        let found = look_up(store, &of_task("a::b::score", 0x1a, None), 50).await;
        assert!(
            matches!(found, Lookup::Miss(CacheMiss::Empty, _)),
            "{found:?}"
        );
        assert_eq!(
            store
                .forget_cached(&CacheFilter::new().task("nothing"), time(0))
                .await
                .unwrap(),
            0
        );
        assert_eq!(
            store
                .forget_cached(&CacheFilter::new(), time(0))
                .await
                .unwrap(),
            2
        );
        assert_eq!(listed(store, CacheFilter::new(), 0).await, [""; 0]);
    })
    .await;
}

#[tokio::test]
async fn runs_are_found_by_the_bounds_and_by_the_ends_of_their_ids() {
    on_each(async |opened| {
        let store = &*opened.store;
        let mut ids = Vec::new();
        for _ in 0..3 {
            ids.push(created(store, new_run("flow")).await.snapshot().id());
        }
        ids.sort_unstable();
        assert_eq!(store.find_ids(ids[0], ids[2]).await.unwrap(), ids);
        assert_eq!(store.find_ids(ids[1], ids[1]).await.unwrap(), [ids[1]]);
        assert_eq!(store.find_ids(ids[2], ids[0]).await.unwrap(), []);
        for id in &ids {
            let digits = id.to_string().replace('-', "").to_uppercase();
            assert_eq!(store.find_ids_ending(&digits[12..]).await.unwrap(), [*id]);
            assert_eq!(
                store.find_ids_ending(&digits[21..]).await.unwrap(),
                [*id],
                "an odd number of digits"
            );
        }
        assert_eq!(store.find_ids_ending("%").await.unwrap(), []);
    })
    .await;
}

#[tokio::test]
async fn a_sound_store_is_counted() {
    on_each(async |opened| {
        let store = &*opened.store;
        with_entries(store).await;
        let _open = created(store, new_run("flow")).await;
        let check = store.check_store().await.unwrap();
        assert_eq!(check.problems, [""; 0]);
        assert_eq!(
            [
                check.counts["runs"],
                check.counts["unfinished_runs"],
                check.counts["cached_results"]
            ],
            [2, 1, 3]
        );
        assert_eq!(check.schema.is_some(), store.is_durable());
    })
    .await;
}
