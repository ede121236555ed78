//! The daily churn pipeline: who bought today, how likely are they to be lost, and into the
//! warehouse with it.
//!
//! ```text
//! shop.db ──extract──► customers/DAY.parquet ──score──► scores/DAY.parquet ──load──► warehouse.db ──► notify
//!                                                │ ▲
//!                                           scoring service
//! ```
//!
//! `cargo run --example customer_pipeline` runs 28 February 1997. With words behind it, it is a
//! command line: `… -- run customer_pipeline --date 1998-06-30` runs another day, `… -- serve` each
//! day at 06:00, about the 24 hours before, and
//! `… -- backfill customer_pipeline --from 1997-01-01 --to 1998-06-30` all days of the data.

mod objects;
mod report;
mod scoring;
mod segment;
mod slack;
mod warehouse;

use std::process::ExitCode;

use chrono::{DateTime, NaiveDate, NaiveTime, TimeDelta, Utc};
use examples::folder::DataFolder;
use examples::shop::{Customer, Shop};
use examples::{format, progress};
use orchestrator::Run;
use orchestrator::prelude::*;
use tokio::task::spawn_blocking;

use crate::objects::Objects;
use crate::scoring::{LARGEST_BATCH, ScoringClient, ScoringError, ScoringService};
use crate::slack::Slack;
use crate::warehouse::{ScoredCustomer, Warehouse};

/// The customers who bought in the interval, as they were known at the logical date, as a file.
/// Returns its key.
#[task(timeout = "10m", tags = ["shop"], description = "Customers who bought in the interval, with their history")]
async fn extract_customers(
    interval: Interval,
    as_of: DateTime<Utc>,
    #[resource] shop: &Shop,
    #[resource] objects: &Objects,
) -> Result<String> {
    let shop = shop.clone();
    let customers =
        spawn_blocking(move || shop.customers_who_bought(interval.start, interval.end, as_of))
            .await??;
    let key = format!("customers/{}.parquet", as_of.date_naive());
    objects.write(&key, &customers).await?;
    Ok(key)
}

/// Asks the scoring service, batch by batch, and puts each customer into a segment. Returns the key
/// of the file.
#[task(timeout = "30m", tags = ["scoring"], description = "Churn probability and segment of each customer")]
async fn score_customers(
    customers: &str,
    as_of: DateTime<Utc>,
    #[resource] scoring: &ScoringClient,
    #[resource] objects: &Objects,
) -> Result<String> {
    let customers: Vec<Customer> = objects.read(customers).await?;
    let mut scored = Vec::with_capacity(customers.len());
    for batch in customers.chunks(LARGEST_BATCH) {
        let probabilities = scoring
            .churn_probabilities(batch)
            .await
            .map_err(give_up_if_lasting)?;
        for (customer, probability) in batch.iter().zip(probabilities) {
            scored.push(ScoredCustomer::new(customer, probability));
        }
    }
    let key = format!("scores/{}.parquet", as_of.date_naive());
    objects.write(&key, &scored).await?;
    Ok(key)
}

/// A key that is refused today is refused in five minutes, too: no retries for that.
fn give_up_if_lasting(error: ScoringError) -> BoxError {
    if error.is_lasting() {
        fatal(error).into()
    } else {
        error.into()
    }
}

/// Loads the scores into the warehouse; a day that is loaded again replaces itself. Returns the
/// number of rows.
#[task(timeout = "10m", tags = ["warehouse"], description = "Upsert of the scored customers")]
async fn load_to_warehouse(
    scores: &str,
    #[resource] objects: &Objects,
    #[resource] warehouse: &Warehouse,
) -> Result<u64> {
    let scored: Vec<ScoredCustomer> = objects.read(scores).await?;
    let warehouse = warehouse.clone();
    Ok(spawn_blocking(move || warehouse.upsert(&scored)).await??)
}

/// Tells the team. SQLite is all that this task waits for, so it is a plain `fn`, which runs off
/// the async threads.
#[task(trigger = one_success, timeout = "1m", tags = ["slack"], description = "Tells the team what was loaded")]
fn notify(
    loaded: Option<u64>,
    as_of: DateTime<Utc>,
    #[resource] warehouse: &Warehouse,
    #[resource] slack: &Slack,
) -> Result<()> {
    let day = as_of.date_naive();
    let headline = match loaded {
        Some(loaded) => format!("{} loaded", format::plural(loaded, "customer", "customers")),
        None => "nothing loaded".to_owned(),
    };
    let segments = warehouse.segments(day)?;
    let segments = segments
        .map(|size| format!("{} {}", size.segment, format::count(size.customers)))
        .join(", ");
    slack.post(
        "#customers",
        format!("Churn scores of {day}: {headline} ({segments})"),
    );
    Ok(())
}

/// Scores those who bought since yesterday morning. Returns how many customers were loaded.
#[flow(
    tags = ["customers", "daily"],
    description = "Scores the day's customers and loads them into the warehouse",
    schedule = "0 6 * * *",
    max_active_runs = 1,
    timeout = "2h",
    defaults(retries = 2, retry_delay = "5m", backoff = 2, max_retry_delay = "1h")
)]
fn customer_pipeline(#[context] context: &Context) -> Node<u64> {
    let as_of = context.logical_date();
    let customers = extract_customers(context.interval(), as_of);
    let scores = score_customers(customers, as_of);
    let loaded = load_to_warehouse(scores);
    notify(&loaded, as_of);
    loaded
}

/// What the tasks work with.
#[derive(Clone, Debug)]
struct Resources {
    shop: Shop,
    objects: Objects,
    warehouse: Warehouse,
    scoring: ScoringClient,
    slack: Slack,
}

impl Resources {
    fn open(folder: &DataFolder, scoring: ScoringClient) -> Result<Self> {
        Ok(Self {
            shop: Shop::open(folder.shop())?,
            objects: Objects::open(folder.objects())?,
            warehouse: Warehouse::open(folder.warehouse())?,
            scoring,
            slack: Slack::default(),
        })
    }

    async fn runtime(&self, store: String) -> Result<Runtime> {
        let runtime = Runtime::builder()
            .store(store)
            .resource(self.shop.clone())
            .resource(self.objects.clone())
            .resource(self.warehouse.clone())
            .resource(self.scoring.clone())
            .resource(self.slack.clone());
        Ok(runtime.build().await?)
    }
}

/// Runs a day as its schedule would: at 06:00, for the 24 hours before.
async fn run_day(day: NaiveDate, runtime: &Runtime) -> Result<Run<u64>> {
    let six = NaiveTime::MIN + TimeDelta::hours(6);
    let fire = day.and_time(six).and_utc();
    let flow = customer_pipeline()
        .logical_date(fire)
        .interval(fire - TimeDelta::days(1), fire);
    Ok(flow.on(runtime).run().await?)
}

/// The key is a secret of the service; in production it comes from the environment or a vault. Here
/// both ends are this process, and the service listens to this machine only.
const API_KEY: &str = "for-this-example-only";

/// The day that runs without an argument.
const DEFAULT_DAY: NaiveDate = NaiveDate::from_ymd_opt(1997, 2, 28).expect("a day");

/// What the command line and the one day have in common; the service ends with it.
struct Pipeline {
    resources: Resources,
    runtime: Runtime,
    service: ScoringService,
}

impl Pipeline {
    async fn start() -> Result<Self> {
        let service = ScoringService::start(API_KEY).await?;
        let folder = DataFolder::from_env();
        let resources = Resources::open(&folder, ScoringClient::new(&service.url(), API_KEY)?)?;
        let runtime = resources.runtime(folder.runs()).await?;
        Ok(Self {
            resources,
            runtime,
            service,
        })
    }
}

/// Runs the one day, and tells the story.
async fn run_default_day() -> Result<RunState> {
    let Pipeline {
        resources,
        runtime,
        service,
    } = Pipeline::start().await?;
    examples::go_on(&runtime).await?;

    report::opening(DEFAULT_DAY, &service);
    let progress = progress::show(runtime.events());
    let run = run_day(DEFAULT_DAY, &runtime).await?;
    progress.end().await;
    report::closing(DEFAULT_DAY, &run, &resources).await?;
    Ok(run.state())
}

#[tokio::main]
async fn main() -> ExitCode {
    if std::env::args().len() == 1 {
        return examples::exit_with(run_default_day().await);
    }
    match Pipeline::start().await {
        Ok(pipeline) => orchestrator::cli().runtime(pipeline.runtime).await,
        Err(error) => examples::exit_with(Err(error)),
    }
}

#[cfg(test)]
mod tests;
