//! One task per source, and the sources are rows of a table: a row more is a task more, with no
//! change of code.
//!
//! `cargo run --example multi_source_etl` runs all of them; at first these are the 78 weeks of the
//! shop's data. `… -- add christmas_1997 1997-12-01 1997-12-24` adds a source, which the next run
//! processes with the others. Other words are a command line: `… -- runs`, `… -- why ID`,
//! `… -- serve`.

mod report;
mod warehouse;

use std::process::ExitCode;

use chrono::NaiveDate;
use examples::folder::DataFolder;
use examples::shop::{NewSource, Shop, Source, SourceSales};
use examples::{format, progress};
use orchestrator::prelude::*;
use serde::{Deserialize, Serialize};

use crate::warehouse::Warehouse;

/// Reads which sources there are today.
#[task(timeout = "1m", tags = ["shop"], description = "The rows of the table `sources`")]
fn list_sources(#[resource] shop: &Shop) -> Result<Vec<Source>> {
    Ok(shop.sources()?)
}

/// Adds up one source and loads it into the warehouse, where it replaces what it was.
#[task(timeout = "10m", tags = ["shop", "warehouse"], description = "The sales of one source")]
fn process_source(
    source: &Source,
    #[resource] shop: &Shop,
    #[resource] warehouse: &Warehouse,
) -> Result<SourceSales> {
    let sales = shop.sales(source)?;
    warehouse.upsert(&sales)?;
    Ok(sales)
}

/// What all sources come to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Summary {
    purchases: u32,
    cds: u32,
    cents: i64,
    /// In the order of the table.
    sources: Vec<SourceSales>,
}

/// Takes the results of all sources, in the order of the list.
#[task(tags = ["report"], description = "All sources together")]
fn summarise(sources: Vec<SourceSales>) -> Summary {
    Summary {
        purchases: sources.iter().map(|sales| sales.purchases).sum(),
        cds: sources.iter().map(|sales| sales.cds).sum(),
        cents: sources.iter().map(|sales| sales.cents).sum(),
        sources,
    }
}

/// Four at a time, as a source with an API of its own would ask for.
#[flow(
    tags = ["sales"],
    description = "Loads the sales of every source in the table `sources`",
    schedule = "@hourly",
    max_active_runs = 1,
    defaults(retries = 2, retry_delay = "1m", backoff = 2, max_retry_delay = "10m")
)]
fn multi_source_etl() -> Node<Summary> {
    summarise(list_sources().expand(process_source).concurrency(4))
}

async fn runtime(store: String, shop: &Shop, warehouse: &Warehouse) -> Result<Runtime> {
    Ok(Runtime::builder()
        .store(store)
        .resource(shop.clone())
        .resource(warehouse.clone())
        .build()
        .await?)
}

async fn run_all(shop: &Shop, warehouse: &Warehouse, runtime: &Runtime) -> Result<RunState> {
    examples::go_on(runtime).await?;
    println!("multi_source_etl, one task for each row of the table `sources`\n");
    let progress = progress::show(runtime.events());
    let run = multi_source_etl().on(runtime).run().await?;
    progress.end().await;
    report::closing(&run, shop, warehouse)?;
    Ok(run.state())
}

fn add(name: &str, first_day: &str, last_day: &str, shop: &Shop) -> Result<RunState> {
    let day = |text: &str| -> Result<NaiveDate> {
        text.parse()
            .map_err(|_| format!("expected a day as 1997-12-24, got `{text}`").into())
    };
    let source = NewSource {
        name: name.to_owned(),
        first_day: day(first_day)?,
        last_day: day(last_day)?,
    };
    shop.add_source(source)?;
    println!(
        "added `{name}`; the next run has {}",
        format::plural(shop.sources()?.len() as u64, "source", "sources")
    );
    Ok(RunState::Success)
}

async fn run(arguments: &[&str]) -> Result<ExitCode> {
    let folder = DataFolder::from_env();
    let shop = Shop::open(folder.shop())?;
    if let ["add", name, first_day, last_day] = *arguments {
        return add(name, first_day, last_day, &shop).map(|_| ExitCode::SUCCESS);
    }
    let warehouse = Warehouse::open(folder.warehouse())?;
    let runtime = runtime(folder.runs(), &shop, &warehouse).await?;
    match arguments {
        [] => Ok(examples::exit_with(
            run_all(&shop, &warehouse, &runtime).await,
        )),
        _ => Ok(orchestrator::cli().runtime(runtime).await),
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    run(&arguments)
        .await
        .unwrap_or_else(|error| examples::exit_with(Err(error)))
}

#[cfg(test)]
mod tests;
