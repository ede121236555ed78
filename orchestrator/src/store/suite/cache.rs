//! Cached results, and flights.

use super::*;

/// Claims flights, and returns their owners.
async fn claim<const N: usize>(store: &dyn Store, keys: [u8; N]) -> [Claim; N] {
    let wanted = keys.map(|key| CacheRequest {
        query: query(key, key, None),
        accept: Accept::Nothing,
    });
    let claims = store
        .look_up_cached(Arc::new(wanted), N, time(0))
        .await
        .unwrap()
        .into_iter()
        .map(|lookup| match lookup {
            Lookup::Miss(CacheMiss::Refreshed, claim) => claim,
            other => panic!("{other:?}"),
        });
    claims.collect::<Vec<_>>().try_into().unwrap()
}

#[tokio::test]
async fn look_up_returns_the_result_or_why_it_is_missing() {
    on_each(async |opened| {
        let store = &*opened.store;
        let log = started(store, new_run("etl"), 9).await;
        let kept = query(1, 1, Some(100));
        assert_eq!(found(store, &kept, 0).await, "Empty");
        cache(&*log, 0, &kept, 1_000, b"a");
        log.commit().wait().await.unwrap();
        assert_eq!(
            found(store, &query(2, 2, Some(100)), 1_001).await,
            "NewInputs"
        );
        assert_eq!(
            found(store, &query(2, 1, Some(100)), 1_001).await,
            "ChangedCode"
        );
        let other = CacheQuery {
            task: "crate::other::task".into(),
            ..query(2, 1, None)
        };
        assert_eq!(found(store, &other, 1_001).await, "Empty");
        let hit = "1000 [97]";
        // an entry does not expire by a clock that was set back
        for (now, expected) in [(1_000, hit), (1_099, hit), (0, hit), (i64::MIN, hit)] {
            assert_eq!(found(store, &kept, now).await, expected, "{now}");
        }
        for now in [1_100, 1_101, i64::MAX] {
            assert!(
                found(store, &kept, now).await.starts_with("Expired"),
                "{now}"
            );
        }
        // the expiry of the query counts, not that of the entry
        assert_eq!(found(store, &query(1, 1, None), i64::MAX).await, hit);
        assert!(
            found(store, &query(1, 1, Some(5)), 1_005)
                .await
                .starts_with("Expired")
        );
        cache(&*log, 1, &kept, 1_200, b"b");
        log.commit().wait().await.unwrap();
        assert_eq!(found(store, &kept, 1_201).await, "1200 [98]");
        match look_up(store, &kept, 1_201).await {
            Lookup::Hit(hit) => assert_eq!(hit.run, log.snapshot().id()),
            miss @ Lookup::Miss(..) => panic!("{miss:?}"),
        }
    })
    .await;
}

#[tokio::test]
async fn a_result_is_cached_with_the_end_that_made_it() {
    on_each_durable(async |opened| {
        let log = started(&*opened.store, new_run("etl"), 2).await;
        let (other, kept) = (opened.reopen(), query(1, 1, None));
        cache(&*log, 0, &kept, 1_000, b"a");
        assert_eq!(found(&*other, &kept, 1_000).await, "Empty");
        log.commit().wait().await.unwrap();
        assert_eq!(found(&*other, &kept, 1_000).await, "1000 [97]");
        let record = other.find_run(log.snapshot().id()).await.unwrap().unwrap();
        assert_eq!(record.task("work").unwrap().state(), TaskState::Success);
    })
    .await;
}

#[tokio::test]
async fn flight_belongs_to_one_process_until_either_ends() {
    on_each(async |opened| {
        let (store, key) = (&opened.store, 7);
        assert_eq!(claim(&**store, [key]).await, [Claim::Own]);
        if !store.is_durable() {
            return;
        }
        let (second, third) = (opened.reopen(), opened.reopen());
        assert_eq!(claim(&*second, [key]).await, [Claim::Other]);
        assert_eq!(claim(&*third, [key]).await, [Claim::Other]);
        // one flight each belongs to two processes
        assert_eq!(claim(&*second, [key, 8]).await, [Claim::Other, Claim::Own]);
        // a process cannot end a flight of another
        third.end_flights(vec![CacheKey([key; 32])]);
        tokio::task::yield_now().await;
        assert_eq!(claim(&*third, [key]).await, [Claim::Other]);
        store.end_flights(vec![CacheKey([key; 32])]);
        tokio::task::yield_now().await;
        assert_eq!(claim(&*second, [key]).await, [Claim::Own]);
        assert_eq!(claim(&**store, [key, 9]).await, [Claim::Other, Claim::Own]);
        drop(second);
        eventually(async || claim(&**store, [key, 8, 9]).await == [Claim::Own; 3]).await;
        assert_eq!(claim(&*third, [key, 8, 9]).await, [Claim::Other; 3]);
    })
    .await;
}

#[tokio::test]
async fn look_up_claims_missing_results_up_to_its_limit() {
    on_each(async |opened| {
        let store = &*opened.store;
        let log = started(store, new_run("etl"), 2).await;
        let run = log.snapshot().id();
        cache(&*log, 0, &query(1, 1, None), 1_000, b"a");
        cache(&*log, 1, &query(2, 2, Some(5)), 1_000, b"b");
        log.commit().wait().await.unwrap();
        let wanted = [
            (query(1, 1, None), Accept::Any),
            (query(3, 1, None), Accept::Any),
            (query(2, 2, Some(5)), Accept::Any),
            (query(1, 1, None), Accept::MadeBy(run, time(999))),
            (query(1, 1, None), Accept::MadeBy(run, time(1_000))),
            (query(4, 4, None), Accept::Any),
        ];
        let wanted: Arc<[CacheRequest]> = wanted
            .map(|(query, accept)| CacheRequest { query, accept })
            .into();
        let found = store.look_up_cached(wanted, 3, time(1_005)).await.unwrap();
        let told = |found: &Lookup| match found {
            Lookup::Hit(_) => "hit".to_owned(),
            Lookup::Miss(CacheMiss::Expired { .. }, claim) => format!("expired {claim:?}"),
            Lookup::Miss(miss, claim) => format!("{miss:?} {claim:?}"),
        };
        assert_eq!(
            found.iter().map(told).collect::<Vec<_>>(),
            [
                "hit",
                "ChangedCode Own",
                "expired Own",
                "hit",
                "Refreshed Own",
                "NewInputs NotMade"
            ],
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_claims_of_a_flight_have_one_winner() {
    on_each_durable(async |opened| {
        let stores: Vec<_> = (0..8).map(|_| opened.reopen()).collect();
        let claims = stores
            .iter()
            .cloned()
            .map(|store| tokio::spawn(async move { claim(&*store, [1]).await[0] }));
        let claims = futures_util::future::join_all(claims).await;
        assert_eq!(
            claims
                .into_iter()
                .filter(|claim| *claim.as_ref().unwrap() == Claim::Own)
                .count(),
            1
        );
    })
    .await;
}

#[tokio::test]
async fn cached_results_go_by_age_and_by_their_size() {
    on_each(async |opened| {
        let store = &*opened.store;
        let log = started(store, new_run("etl"), 200).await;
        let (brief, lasting) = (query(1, 1, Some(100)), query(2, 2, Some(101)));
        cache(&*log, 0, &brief, 1_000, b"a");
        cache(&*log, 1, &lasting, 1_000, b"b");
        log.commit().wait().await.unwrap();
        assert_eq!(
            store
                .prune_store(time(0), time(1_099), u64::MAX)
                .await
                .unwrap()
                .cached,
            0
        );
        assert_eq!(
            store
                .prune_store(time(0), time(1_100), u64::MAX)
                .await
                .unwrap()
                .cached,
            1
        );
        assert_eq!(found(store, &brief, 1_000).await, "NewInputs");
        assert_eq!(found(store, &lasting, 1_100).await, "1000 [98]");
        assert_eq!(
            store
                .prune_store(time(0), time(1_100), 0)
                .await
                .unwrap()
                .cached,
            1
        );
        if !store.is_durable() {
            return;
        }
        for number in 0..150 {
            // later entries have older results
            cache(
                &*log,
                10 + number,
                &query(number as u8, 1, None),
                10_000 - i64::from(number),
                &[0; 10],
            );
        }
        log.commit().wait().await.unwrap();
        assert_eq!(
            store
                .prune_store(time(0), time(20_000), 1_500)
                .await
                .unwrap()
                .cached,
            0
        );
        assert_eq!(
            store
                .prune_store(time(0), time(20_000), 295)
                .await
                .unwrap()
                .cached,
            121
        );
        for (number, expected) in [(0, true), (28, true), (29, false), (149, false)] {
            assert_eq!(
                !found(store, &query(number, 1, None), 0)
                    .await
                    .contains("Changed"),
                expected,
                "{number}"
            );
        }
    })
    .await;
}
