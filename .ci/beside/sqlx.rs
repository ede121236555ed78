//! A program that uses sqlx next to the library: a flow on a durable store whose task asks a
//! database by sqlx.

use orchestrator::prelude::*;
use sqlx::SqlitePool;

#[task]
async fn count(least: i64, #[resource] shop: &SqlitePool) -> Result<i64> {
    Ok(sqlx::query_scalar("SELECT count(*) FROM sales WHERE cents >= ?1").bind(least).fetch_one(shop).await?)
}

#[flow]
fn report(least: i64) -> Node<i64> {
    count(least)
}

#[tokio::main]
async fn main() -> Result<()> {
    let shop = SqlitePool::connect("sqlite:shop.db?mode=rwc").await?;
    sqlx::query("CREATE TABLE sales (cents INTEGER NOT NULL)").execute(&shop).await?;
    sqlx::query("INSERT INTO sales VALUES (100), (250), (300)").execute(&shop).await?;
    let runtime = Runtime::builder().store("sqlite:runs.db").resource(shop).build().await?;
    let run = report(200).on(&runtime).run().await?;
    println!("{}: {} sales", run.state(), run.output().copied().unwrap_or_default());
    Ok(())
}
