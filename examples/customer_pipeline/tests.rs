//! The pipeline as a whole, each test in a folder and with a service of its own.

use tempfile::TempDir;

use super::*;

const FEBRUARY_28: NaiveDate = DEFAULT_DAY;
const JUNE_30: NaiveDate = NaiveDate::from_ymd_opt(1998, 6, 30).expect("a day");
const NOBODY_BOUGHT: NaiveDate = NaiveDate::from_ymd_opt(1998, 4, 13).expect("a day");

struct Pipeline {
    resources: Resources,
    runtime: Runtime,
    _service: ScoringService,
    _folder: TempDir,
}

/// A pipeline whose service knows `API_KEY`, and whose client shows `api_key`.
async fn pipeline(api_key: &str) -> Pipeline {
    let folder = tempfile::tempdir().unwrap();
    let service = ScoringService::start(API_KEY).await.unwrap();
    let scoring = ScoringClient::new(&service.url(), api_key).unwrap();
    let resources = Resources::open(&DataFolder::at(folder.path()), scoring).unwrap();
    let runtime = resources.runtime("memory".to_owned()).await.unwrap();
    Pipeline {
        resources,
        runtime,
        _service: service,
        _folder: folder,
    }
}

#[tokio::test]
async fn february_28_loads_42_customers() {
    let pipeline = pipeline(API_KEY).await;
    let run = run_day(FEBRUARY_28, &pipeline.runtime).await.unwrap();
    assert_eq!((run.state(), run.output()), (RunState::Success, Some(&42)));
    assert!(
        run.tasks()
            .iter()
            .all(|task| task.state() == TaskState::Success && task.attempts() == 1)
    );

    let rows = pipeline.resources.warehouse.rows();
    assert_eq!(rows.len(), 42);
    assert!(
        rows.iter()
            .all(|row| row.as_of == FEBRUARY_28 && row.last_purchase == FEBRUARY_28)
    );
    assert_eq!(pipeline.resources.slack.take().len(), 1);
}

#[tokio::test]
async fn june_30_loads_2_customers() {
    let pipeline = pipeline(API_KEY).await;
    let run = run_day(JUNE_30, &pipeline.runtime).await.unwrap();
    assert_eq!(run.output(), Some(&2));
    let [message] = &pipeline.resources.slack.take()[..] else {
        panic!("expected one message")
    };
    assert!(message.text.contains("2 customers loaded"), "{message:?}");
}

#[tokio::test]
async fn a_day_that_runs_twice_changes_nothing() {
    let pipeline = pipeline(API_KEY).await;
    run_day(FEBRUARY_28, &pipeline.runtime).await.unwrap();
    let once = pipeline.resources.warehouse.rows();
    let again = run_day(FEBRUARY_28, &pipeline.runtime).await.unwrap();
    assert_eq!(again.output(), Some(&42));
    assert_eq!(pipeline.resources.warehouse.rows(), once);
}

#[tokio::test]
async fn the_whole_sample_goes_in_batches_and_fills_every_segment() {
    let pipeline = pipeline(API_KEY).await;
    let [start, end] = [
        NaiveDate::from_ymd_opt(1997, 1, 1).unwrap(),
        JUNE_30.succ_opt().unwrap(),
    ]
    .map(|day| day.and_time(NaiveTime::MIN).and_utc());
    let run = customer_pipeline()
        .logical_date(end)
        .interval(start, end)
        .on(&pipeline.runtime)
        .run()
        .await
        .unwrap();
    assert_eq!(run.output(), Some(&2_357));
    let segments = pipeline
        .resources
        .warehouse
        .segments(end.date_naive())
        .unwrap();
    assert!(
        segments.iter().all(|size| size.customers > 0),
        "{segments:?}"
    );
    assert_eq!(
        segments.iter().map(|size| size.customers).sum::<u32>(),
        2_357
    );
}

#[tokio::test]
async fn a_backfill_of_all_days_loads_all_customers() {
    let pipeline = pipeline(API_KEY).await;
    let days = NaiveDate::from_ymd_opt(1997, 1, 1).unwrap()..=JUNE_30;
    let backfill = customer_pipeline()
        .on(&pipeline.runtime)
        .backfill(cron!("0 6 * * *"), days);
    let done = backfill.clone().run().await.unwrap();
    assert_eq!(
        (done.created(), done.succeeded(), done.skipped()),
        (546, 546, 0)
    );
    assert_eq!(pipeline.resources.warehouse.customers().unwrap(), 2_357);
    assert_eq!(pipeline.resources.warehouse.rows().len(), 6_696);
    let again = backfill.run().await.unwrap();
    assert_eq!((again.created(), again.skipped()), (0, 546));
}

#[tokio::test]
async fn a_day_without_purchases_loads_nothing_and_says_so() {
    let pipeline = pipeline(API_KEY).await;
    let run = run_day(NOBODY_BOUGHT, &pipeline.runtime).await.unwrap();
    assert_eq!((run.state(), run.output()), (RunState::Success, Some(&0)));
    assert!(
        pipeline.resources.slack.take()[0]
            .text
            .contains("0 customers loaded")
    );
}

#[tokio::test]
async fn a_wrong_key_is_not_tried_again_and_nothing_is_loaded() {
    let pipeline = pipeline("another key").await;
    let run = run_day(FEBRUARY_28, &pipeline.runtime).await.unwrap();
    assert_eq!((run.state(), run.output()), (RunState::Failed, None));
    let states = [
        "extract_customers",
        "score_customers",
        "load_to_warehouse",
        "notify",
    ]
    .map(|name| {
        (
            run.task(name).unwrap().state(),
            run.task(name).unwrap().attempts(),
        )
    });
    assert_eq!(
        states,
        [
            (TaskState::Success, 1),
            (TaskState::Failed, 1),
            (TaskState::UpstreamFailed, 0),
            (TaskState::UpstreamFailed, 0),
        ]
    );
    assert!(pipeline.resources.warehouse.rows().is_empty());
    assert!(pipeline.resources.slack.take().is_empty());
}
