//! What a person reads when the run is over.

use std::cmp::Reverse;

use examples::folder::shown;
use examples::format::{count, dollars, duration, plural};
use examples::shop::{Shop, SourceSales};
use orchestrator::Run;
use orchestrator::prelude::*;

use crate::Summary;
use crate::warehouse::Warehouse;

/// How many of the busiest sources are listed.
const BUSIEST: usize = 5;

/// Says what came of the run.
///
/// # Errors
/// If the warehouse cannot be read.
pub(crate) fn closing(run: &Run<Summary>, shop: &Shop, warehouse: &Warehouse) -> Result<()> {
    let time = duration(run.duration().unwrap_or_default());
    let Some(summary) = run.output() else {
        println!(
            "\n{} after {time}: no summary, for not every source could be processed",
            run.state()
        );
        return Ok(());
    };
    let Summary {
        purchases,
        cds,
        cents,
        sources,
    } = summary;
    println!(
        "\n{} in {time}: {} processed",
        run.state(),
        plural(sources.len() as u64, "source", "sources")
    );
    println!(
        "  {}, {}, {}",
        plural(*purchases, "purchase", "purchases"),
        plural(*cds, "CD", "CDs"),
        dollars(*cents)
    );
    println!("  purchases by source: {}\n", bars(sources));

    println!(
        "  {:<18}{:<24}{:>10}{:>10}{:>8}{:>14}",
        "busiest", "days", "purchases", "customers", "CDs", "paid"
    );
    let mut busiest: Vec<&SourceSales> = sources.iter().collect();
    busiest.sort_by_key(|sales| Reverse(sales.purchases));
    for SourceSales {
        source,
        purchases,
        customers,
        cds,
        cents,
    } in busiest.into_iter().take(BUSIEST)
    {
        let days = format!("{} to {}", source.first_day, source.last_day);
        let [purchases, customers, cds] = [purchases, customers, cds].map(|n| count(*n));
        println!(
            "  {:<18}{days:<24}{purchases:>10}{customers:>10}{cds:>8}{:>14}",
            source.name,
            dollars(*cents)
        );
    }

    let loaded = plural(warehouse.sources()?, "source", "sources");
    println!("\n  read   {}", shown(shop.path()));
    println!(
        "  wrote  {} ({loaded} in `source_sales`)",
        shown(warehouse.path())
    );
    Ok(())
}

/// A bar for each source, the highest for the one with the most purchases: `▂▄█▂▁`.
fn bars(sources: &[SourceSales]) -> String {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let most = sources
        .iter()
        .map(|sales| sales.purchases)
        .max()
        .unwrap_or(0)
        .max(1);
    let top = BARS.len() as u32 - 1;
    sources
        .iter()
        .map(|sales| BARS[(sales.purchases * top).div_ceil(most) as usize])
        .collect()
}
