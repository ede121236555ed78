//! A program that uses rusqlite next to the library: a flow on a durable store whose task asks a
//! database by rusqlite.

use std::sync::Mutex;

use orchestrator::prelude::*;
use rusqlite::Connection;

struct Shop(Mutex<Connection>);

#[task]
fn count(least: i64, #[resource] shop: &Shop) -> Result<i64> {
    let shop = shop.0.lock().expect("no task panics with the lock");
    Ok(shop.query_row("SELECT count(*) FROM sales WHERE cents >= ?1", [least], |row| row.get(0))?)
}

#[flow]
fn report(least: i64) -> Node<i64> {
    count(least)
}

#[tokio::main]
async fn main() -> Result<()> {
    let shop = Connection::open("shop.db")?;
    shop.execute_batch("CREATE TABLE sales (cents INTEGER NOT NULL); INSERT INTO sales VALUES (100), (250), (300);")?;
    let runtime = Runtime::builder().store("sqlite:runs.db").resource(Shop(Mutex::new(shop))).build().await?;
    let run = report(200).on(&runtime).run().await?;
    println!("{}: {} sales", run.state(), run.output().copied().unwrap_or_default());
    Ok(())
}
