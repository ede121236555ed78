//! The flow as a whole, each test in a folder of its own.

use tempfile::TempDir;

use super::*;
use orchestrator::Run;

struct Etl {
    shop: Shop,
    warehouse: Warehouse,
    runtime: Runtime,
    _folder: TempDir,
}

async fn etl() -> Etl {
    let folder = tempfile::tempdir().unwrap();
    let place = DataFolder::at(folder.path());
    let (shop, warehouse) = (
        Shop::open(place.shop()).unwrap(),
        Warehouse::open(place.warehouse()).unwrap(),
    );
    let runtime = runtime("memory".to_owned(), &shop, &warehouse)
        .await
        .unwrap();
    Etl {
        shop,
        warehouse,
        runtime,
        _folder: folder,
    }
}

fn processed(run: &Run<Summary>) -> Vec<Option<usize>> {
    run.tasks()
        .iter()
        .filter(|task| task.name() == "process_source")
        .map(|task| task.map_index())
        .collect()
}

#[tokio::test]
async fn each_row_of_the_table_is_a_task() {
    let etl = etl().await;
    let rows = etl.shop.sources().unwrap().len();
    assert!(rows >= 50);
    let run = multi_source_etl().on(&etl.runtime).run().await.unwrap();
    assert_eq!(run.state(), RunState::Success);
    assert_eq!(processed(&run), (0..rows).map(Some).collect::<Vec<_>>());

    let summary = run.output().unwrap();
    assert_eq!(summary.purchases, 6_919); // the weeks hold every purchase once
    assert_eq!(
        summary
            .sources
            .iter()
            .map(|sales| &sales.source)
            .collect::<Vec<_>>(),
        etl.shop.sources().unwrap().iter().collect::<Vec<_>>()
    );
    assert_eq!(etl.warehouse.sources().unwrap(), rows as u32);
}

#[tokio::test]
async fn a_row_more_is_a_task_more_in_the_next_run() {
    let etl = etl().await;
    let before = processed(&multi_source_etl().on(&etl.runtime).run().await.unwrap()).len();
    let day = |day| NaiveDate::from_ymd_opt(1997, 12, day).unwrap();
    let christmas = NewSource {
        name: "christmas_1997".to_owned(),
        first_day: day(1),
        last_day: day(24),
    };
    etl.shop.add_source(christmas).unwrap();

    let run = multi_source_etl().on(&etl.runtime).run().await.unwrap();
    assert_eq!(processed(&run).len(), before + 1);
    let newest = run.output().unwrap().sources.last().unwrap();
    assert_eq!(
        (newest.source.name.as_str(), newest.purchases),
        ("christmas_1997", 219)
    );
    assert_eq!(etl.warehouse.sources().unwrap(), before as u32 + 1);
}

#[tokio::test]
async fn running_twice_changes_nothing() {
    let etl = etl().await;
    multi_source_etl().on(&etl.runtime).await.unwrap();
    let once = etl.warehouse.rows();
    multi_source_etl().on(&etl.runtime).await.unwrap();
    assert_eq!(etl.warehouse.rows(), once);
}
