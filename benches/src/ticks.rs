//! How late ticks are, with ten thousand schedules served, and what these cost while nothing is
//! due.
//!
//! A tick is an instant of the system's clock; it is late by what that clock shows at the first
//! poll of its run's task.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use orchestrator::prelude::*;
use orchestrator::{Clock, Serve};

use crate::compare::on_a_worker;
use crate::durable::idle_millis;
use crate::targets::{Target, print_all};

const SCHEDULES: usize = 10_000;

/// How late a tick may be.
const LATE: f64 = 50.0;

/// How late the ticks of one pass were.
#[derive(Clone, Debug, Default)]
struct Lateness(Arc<Mutex<Vec<TimeDelta>>>);

#[task]
async fn fired(tick: DateTime<Utc>, #[resource] late: &Lateness) {
    late.0
        .lock()
        .expect("nobody panics")
        .push(Clock::system().now() - tick);
}

#[flow(name = "ticks")]
fn ticked(#[context] context: &Context) -> Node<()> {
    fired(context.logical_date())
}

/// When the schedules of a pass fire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Load {
    /// Twenty a second for five seconds; the others in a day.
    Few,
    /// A thousand a second for five seconds; the others in a day.
    Many,
    /// All of them within ten milliseconds.
    AtOnce,
    /// All of them in a day.
    None,
}

impl Load {
    const ALL: [Self; 4] = [Self::Few, Self::Many, Self::AtOnce, Self::None];

    fn name(self) -> &'static str {
        match self {
            Self::Few => "20 a second",
            Self::Many => "1,000 a second",
            Self::AtOnce => "10,000 at once",
            Self::None => "none",
        }
    }

    /// How many ticks come, and within which time.
    fn ticks(self) -> (usize, Duration) {
        match self {
            Self::Few => (100, Duration::from_secs(5)),
            Self::Many => (5_000, Duration::from_secs(5)),
            Self::AtOnce => (SCHEDULES, Duration::from_millis(10)),
            Self::None => (0, Duration::ZERO),
        }
    }

    /// Ten thousand served flows; the first tick is three seconds from now.
    fn served(self) -> Vec<Serve> {
        let (ticks, within) = self.ticks();
        let first = Clock::system().now() + TimeDelta::seconds(3);
        let at = |number: usize| match number < ticks {
            true => {
                first
                    + within * u32::try_from(number).expect("few")
                        / u32::try_from(ticks).expect("few")
            }
            false => first + TimeDelta::days(1) + TimeDelta::milliseconds(number as i64),
        };
        (0..SCHEDULES)
            .map(|number| ticked().serve(Schedule::once(at(number))))
            .collect()
    }
}

struct Measured {
    store: &'static str,
    load: Load,
    /// In milliseconds, in order.
    late: Vec<f64>,
    idle: f64,
}

impl Measured {
    fn at(&self, part: f64) -> f64 {
        let last = self.late.len().saturating_sub(1);
        self.late
            .get((last as f64 * part) as usize)
            .copied()
            .unwrap_or_default()
    }
}

/// Measures and prints.
pub fn compare() {
    let measured = on_a_worker(async {
        let mut measured = Vec::new();
        for store in ["memory", "sqlite"] {
            for load in Load::ALL {
                measured.push(measure(store, load).await);
            }
        }
        measured
    });
    println!(
        "| store | ticks | fired | late by, ms: median | 99 % | most | idle: ms of processor in 3 s |"
    );
    println!("| --- | --- | ---: | ---: | ---: | ---: | ---: |");
    for own in &measured {
        let late = [0.5, 0.99, 1.0].map(|part| match own.late.is_empty() {
            true => "–".to_owned(),
            false => format!("{:.1}", own.at(part)),
        });
        let idle = if own.load == Load::None {
            format!("{:.2}", own.idle)
        } else {
            "–".to_owned()
        };
        println!(
            "| {} | {} | {} | {} | {idle} |",
            own.store,
            own.load.name(),
            own.late.len(),
            late.join(" | ")
        );
    }
    let targets = measured
        .iter()
        .filter(|own| matches!(own.load, Load::Few | Load::Many))
        .map(|own| Target {
            text: format!("ticks, {}, {}: ms late at most", own.store, own.load.name()),
            most: LATE,
            median: own.at(1.0),
            fastest: own.at(0.99),
        });
    print_all(targets.collect());
}

async fn measure(store: &'static str, load: Load) -> Measured {
    let late = Lateness::default();
    let folder = tempfile::tempdir().expect("a new folder");
    let url = match store {
        "memory" => "memory".to_owned(),
        _ => format!("sqlite:{}", folder.path().join("runs.db").display()),
    };
    let runtime = Runtime::builder()
        .store(url)
        .resource(late.clone())
        .build()
        .await
        .expect("a new store");
    let serving = runtime.clone();
    let served = tokio::spawn(async move { serving.serve(load.served()).await });
    let (ticks, within) = load.ticks();
    let idle = match load {
        Load::None => {
            tokio::time::sleep(Duration::from_secs(2)).await;
            idle_millis().await
        }
        _ => 0.0,
    };
    let mut waited = Duration::ZERO;
    while late.0.lock().expect("nobody panics").len() < ticks
        && waited < within + Duration::from_secs(60)
    {
        tokio::time::sleep(Duration::from_millis(50)).await;
        waited += Duration::from_millis(50);
    }
    runtime.stop().await;
    served.await.expect("it does not panic").expect("it stops");
    let mut late: Vec<f64> = late
        .0
        .lock()
        .expect("nobody panics")
        .iter()
        .map(millis)
        .collect();
    assert_eq!(late.len(), ticks, "a tick has no run, or two");
    late.sort_by(f64::total_cmp);
    Measured {
        store,
        load,
        late,
        idle,
    }
}

fn millis(late: &TimeDelta) -> f64 {
    late.num_microseconds().unwrap_or(i64::MAX) as f64 / 1e3
}
