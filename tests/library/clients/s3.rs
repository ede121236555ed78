use std::time::{Duration, Instant};

use orchestrator::object_store::buffered::BufWriter;
use orchestrator::object_store::path::Path;
use orchestrator::object_store::{Error, ObjectStore, ObjectStoreExt as _};
use orchestrator::prelude::*;
use orchestrator::{Connect, Http, S3};
use tokio::io::AsyncWriteExt as _;

use super::{chain, connect};
use crate::support;

/// The URL of a connection to the server, with a bucket.
async fn lake(bucket: &str) -> Option<String> {
    let endpoint = support::server("ORCHESTRATOR_TEST_S3")?;
    let api = connect::<Http>(&endpoint).await.unwrap();
    api.send(api.put(bucket)).await.unwrap();
    Some(format!(
        "aws://AKIATESTS:s%2Fcret-s3cret@/?region_name=us-east-1&endpoint_url={endpoint}"
    ))
}

#[task]
async fn store(report: String, #[context] context: &Context) -> Result<u64> {
    let bucket = context.connection::<S3>("lake").await?.bucket("flows")?;
    let path = Path::from("reports/today.txt");
    bucket.put(&path, report.into()).await?;
    let stored = bucket.get(&path).await?.bytes().await?;
    Ok(stored.len() as u64)
}

#[flow]
fn storing(report: String) -> Node<u64> {
    store(report)
}

#[tokio::test]
async fn task_stores_and_reads_an_object() {
    let Some(url) = lake("flows").await else {
        return;
    };
    let runtime = support::builder()
        .connection("lake", url)
        .build()
        .await
        .unwrap();
    assert_eq!(
        storing("ten bytes!".to_owned()).on(&runtime).await.unwrap(),
        10
    );
}

#[tokio::test]
async fn objects_are_put_listed_and_deleted() {
    let Some(url) = lake("listed").await else {
        return;
    };
    let s3 = connect::<S3>(&url).await.unwrap();
    let bucket: std::sync::Arc<dyn ObjectStore> = s3.bucket("listed").unwrap();
    for name in ["a/1", "a/2 b", "b/3"] {
        bucket
            .put(&Path::from(name), name.to_owned().into())
            .await
            .unwrap();
    }
    let listed = bucket
        .list_with_delimiter(Some(&Path::from("a")))
        .await
        .unwrap();
    let names: Vec<_> = listed
        .objects
        .iter()
        .map(|object| object.location.to_string())
        .collect();
    assert_eq!(names, ["a/1", "a/2 b"]);
    bucket.delete(&Path::from("a/1")).await.unwrap();
    let error = bucket.get(&Path::from("a/1")).await.unwrap_err();
    assert!(matches!(error, Error::NotFound { .. }), "{error}");
}

#[tokio::test]
async fn large_object_goes_in_parts() {
    let Some(url) = lake("parts").await else {
        return;
    };
    let bucket = connect::<S3>(&url).await.unwrap().bucket("parts").unwrap();
    let path = Path::from("large");
    let large: Vec<u8> = (0..12 << 20).map(|i| (i % 251) as u8).collect();
    // above its capacity, parts are uploaded
    let mut writer = BufWriter::with_capacity(bucket.clone(), path.clone(), 5 << 20);
    for piece in large.chunks(1 << 20) {
        writer.write_all(piece).await.unwrap();
    }
    writer.shutdown().await.unwrap();
    assert_eq!(
        bucket.get(&path).await.unwrap().bytes().await.unwrap(),
        large
    );
    assert!(
        bucket
            .head(&path)
            .await
            .unwrap()
            .e_tag
            .unwrap()
            .contains("-3"),
        "three parts"
    );
}

#[tokio::test]
async fn check_asks_for_the_bucket_if_there_is_one() {
    let Some(url) = lake("checked").await else {
        return;
    };
    connect::<S3>(&url).await.unwrap().check().await.unwrap();
    let there = connect::<S3>(&format!("{url}&bucket_name=checked"))
        .await
        .unwrap();
    there.check().await.unwrap();
    let missing = connect::<S3>(&format!("{url}&bucket_name=missing"))
        .await
        .unwrap();
    let error = chain(&*missing.check().await.unwrap_err());
    assert!(error.contains("bucket does not exist"), "{error}");
}

#[tokio::test]
async fn endpoint_without_a_server_is_an_error_in_time() {
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", closed.local_addr().unwrap());
    drop(closed);
    let url = format!("s3://AKIATESTS:s3cret-s3cret@/?endpoint_url={endpoint}&bucket_name=lake");
    let s3 = connect::<S3>(&url).await.unwrap();
    let start = Instant::now();
    let error = chain(&*s3.check().await.unwrap_err());
    assert!(
        start.elapsed() < Duration::from_secs(40),
        "{:?}",
        start.elapsed()
    );
    assert!(
        error.contains("Connection refused") && !error.contains("s3cret"),
        "{error}"
    );
}
