use chrono::{NaiveDate, TimeDelta};
use examples::shop::{Customer, Shop};

use super::*;

const API_KEY: &str = "a key for tests";

/// Customer 1 on the last day of the paper's calibration period: x = 2, t_x = 30.43, T = 38.86.
fn check_customer(folder: &tempfile::TempDir) -> Customer {
    let shop = Shop::open(folder.path().join("shop.db")).unwrap();
    let end = NaiveDate::from_ymd_opt(1997, 9, 30)
        .unwrap()
        .and_hms_opt(6, 0, 0)
        .unwrap()
        .and_utc();
    shop.customers_who_bought(end - TimeDelta::days(300), end, end)
        .unwrap()
        .swap_remove(0)
}

#[tokio::test]
async fn the_check_customer_gets_the_published_value_over_http() {
    let folder = tempfile::tempdir().unwrap();
    let service = ScoringService::start(API_KEY).await.unwrap();
    let client = ScoringClient::new(&service.url(), API_KEY).unwrap();
    let customer = check_customer(&folder);
    let churn = client.churn_probabilities(&[customer]).await.unwrap();
    assert_eq!(format!("{:.4}", 1.0 - churn[0]), "0.7266");
}

#[tokio::test]
async fn a_wrong_key_is_refused_for_good() {
    let folder = tempfile::tempdir().unwrap();
    let service = ScoringService::start(API_KEY).await.unwrap();
    let client = ScoringClient::new(&service.url(), "another key").unwrap();
    let error = client
        .churn_probabilities(&[check_customer(&folder)])
        .await
        .unwrap_err();
    assert!(error.is_lasting());
    assert!(error.to_string().contains("is not known here"), "{error}");
    assert!(
        matches!(&error, ScoringError::Refused { status, .. } if status.status().unwrap() == 401)
    );
}

#[tokio::test]
async fn five_hundred_are_scored_and_one_more_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let service = ScoringService::start(API_KEY).await.unwrap();
    let client = ScoringClient::new(&service.url(), API_KEY).unwrap();
    let mut batch = vec![check_customer(&folder); LARGEST_BATCH];
    assert_eq!(
        client.churn_probabilities(&batch).await.unwrap().len(),
        LARGEST_BATCH
    );
    batch.push(batch[0].clone());
    let error = client.churn_probabilities(&batch).await.unwrap_err();
    assert!(
        error.is_lasting() && error.to_string().contains("got 501"),
        "{error}"
    );
}

#[tokio::test]
async fn a_service_that_is_down_may_be_asked_again() {
    let folder = tempfile::tempdir().unwrap();
    let client = ScoringClient::new("http://127.0.0.1:1", API_KEY).unwrap();
    let error = client
        .churn_probabilities(&[check_customer(&folder)])
        .await
        .unwrap_err();
    assert!(!error.is_lasting());
}
