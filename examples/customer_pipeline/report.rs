//! What a person reads: before the run what is about to happen, after it what came of it and where
//! it lies.

use std::path::Path;

use chrono::NaiveDate;
use examples::folder::shown;
use examples::format::{count, dollars, duration, plural};
use examples::shop::Customer;
use orchestrator::Run;
use orchestrator::prelude::*;

use crate::Resources;
use crate::scoring::ScoringService;
use crate::warehouse::ScoredCustomer;

/// Says what runs.
pub(crate) fn opening(day: NaiveDate, service: &ScoringService) {
    println!("customer_pipeline of {day} 06:00 UTC, for the 24 hours before");
    println!("scoring service at {}\n", service.url());
}

/// Says what came of it.
///
/// # Errors
/// If what the run wrote cannot be read.
pub(crate) async fn closing(day: NaiveDate, run: &Run<u64>, resources: &Resources) -> Result<()> {
    let time = duration(run.duration().unwrap_or_default());
    let Some(&loaded) = run.output() else {
        println!("\n{} after {time}: nothing loaded", run.state());
        return Ok(());
    };
    println!(
        "\n{} in {time}: {} loaded\n",
        run.state(),
        plural(loaded, "customer", "customers")
    );
    segments(day, resources)?;
    if loaded == 0 {
        let (first, last) = resources.shop.size()?.days;
        println!("\nNobody bought on that day; the data are from {first} to {last}.");
    }
    for message in resources.slack.take() {
        println!(
            "\nSlack will get, in {}:\n  {}",
            message.channel, message.text
        );
    }
    files(day, resources).await
}

fn segments(day: NaiveDate, resources: &Resources) -> Result<()> {
    println!(
        "  {:<10}{:<16}{:>10}{:>18}",
        "segment", "churn", "customers", "lifetime value"
    );
    for size in resources.warehouse.segments(day)? {
        let (customers, value) = (count(size.customers), dollars(size.lifetime_value_cents));
        println!(
            "  {:<10}{:<16}{customers:>10}{value:>18}",
            size.segment,
            size.segment.bounds()
        );
    }
    Ok(())
}

async fn files(
    day: NaiveDate,
    Resources {
        shop,
        objects,
        warehouse,
        ..
    }: &Resources,
) -> Result<()> {
    let size = shop.size()?;
    let [customers, scores] = ["customers", "scores"].map(|kind| format!("{kind}/{day}.parquet"));
    let rows = |n: usize| plural(n as u64, "row", "rows");
    let customer_rows = rows(objects.read::<Customer>(&customers).await?.len());
    let score_rows = rows(objects.read::<ScoredCustomer>(&scores).await?.len());
    let in_shop = format!(
        "{} of {} customers",
        plural(size.purchases, "purchase", "purchases"),
        count(size.customers)
    );
    let in_warehouse = format!(
        "{} in all",
        plural(warehouse.customers()?, "customer", "customers")
    );

    println!("\n  {:<12}{:<36}file", "", "holds");
    for (what, holds, file) in [
        ("shop", in_shop, shop.path()),
        ("customers", customer_rows, &*objects.root().join(customers)),
        ("scores", score_rows, &*objects.root().join(scores)),
        ("warehouse", in_warehouse, warehouse.path()),
    ] {
        line(what, &holds, file);
    }
    Ok(())
}

fn line(what: &str, holds: &str, file: &Path) {
    println!("  {what:<12}{holds:<36}{}", shown(file));
}
