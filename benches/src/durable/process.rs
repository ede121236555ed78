//! What is measured of whole processes: this program is started again, with a word that says what
//! it is to do.

use std::env;
use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rusqlite::{Connection, OptionalExtension};

use super::{own, prune, raw};
use crate::compare::on_a_worker;
use crate::measure::Times;
use crate::targets::Target;
use crate::{Shape, flow};

/// The first argument of such a process.
pub(super) const CHILD: &str = "durable-process";

pub(super) const MILLION: Shape = Shape::Mapped(1_000_000);
const MILLIONS: usize = 3;

const STARTS: usize = 40;

/// How long an idle process is watched.
const IDLE: Duration = Duration::from_secs(3);

/// What such a process does.
pub(super) fn child(what: &str, folder: &Path) {
    let folder = folder.to_owned();
    match what {
        "start-nothing" => say(""),
        "start-rusqlite" => make(&folder)
            .map(|_| say(""))
            .expect("a database can be made"),
        "start-orchestrator" => on_a_worker(async move {
            let runtime = own::runtime(&folder).await;
            flow::output(Shape::Chain(1), &runtime).await;
            say("");
        }),
        "million" => on_a_worker(async move {
            let runtime = own::runtime(&folder).await;
            let begin = Instant::now();
            let value = flow::output(MILLION, &runtime).await;
            let micros = begin.elapsed().as_secs_f64() * 1e6;
            assert_eq!(value, MILLION.expected(), "{} on {MILLION}", flow::NAME);
            say(&format!(
                "{} {}",
                micros / MILLION.tasks() as f64,
                peak_mib()
            ));
        }),
        "prune" => on_a_worker(async move { prune::child(&folder).await }),
        "idle-tokio" => on_a_worker(async { say(&idle_millis().await.to_string()) }),
        "idle-orchestrator" => on_a_worker(async move {
            let runtime = own::runtime(&folder).await;
            flow::output(Shape::FanOut(1_000), &runtime).await;
            say(&idle_millis().await.to_string());
            drop(runtime);
        }),
        _ => unreachable!("nobody asks for `{what}`"),
    }
}

/// Time and memory of a million elements.
pub(super) fn measure_million() -> Vec<Target> {
    let (mut micros, mut peaks) = (Times::default(), Times::default());
    for round in 1..=MILLIONS {
        eprintln!("{MILLION}, process {round}");
        let folder = tempfile::tempdir().expect("a folder can be made");
        let line = answer(start("million", folder.path()));
        let (of_micros, of_peaks) = line.split_once(' ').expect("two figures");
        micros.0.push(of_micros.parse().expect("a figure"));
        peaks.0.push(of_peaks.parse().expect("a figure"));
    }
    println!("\n| durable | µs a task | fastest | most MiB resident | processes |");
    println!("| --- | ---: | ---: | ---: | ---: |");
    println!(
        "| {MILLION} | {:.2} | {:.2} | {:.0} | {MILLIONS} |",
        micros.median(),
        micros.fastest(),
        peaks.median()
    );
    let target = |what: &str, most, times: &Times| {
        let text = format!("durable {MILLION}: {what}");
        Target {
            text,
            most,
            median: times.median(),
            fastest: times.fastest(),
        }
    };
    vec![
        target("µs a task", 5.0, &micros),
        target("most MiB resident", 600.0, &peaks),
    ]
}

/// From the start of a process to the end of a run of one task, on a new store; or to the end of
/// making the same database by rusqlite; or to `main`.
pub(super) fn measure_start() -> Vec<Target> {
    const NAMES: [&str; 3] = ["nothing", raw::NAME, flow::NAME];
    let template = tempfile::tempdir().expect("a folder can be made");
    let path = template.path().to_owned();
    on_a_worker(async move { drop(own::runtime(&path).await) });
    let schema = schema(template.path()).expect("the store can be read");
    let mut times: [Times; 3] = Default::default();
    for round in 0..STARTS {
        for turn in 0..NAMES.len() {
            let place = (round + turn) % NAMES.len();
            let folder = tempfile::tempdir().expect("a folder can be made");
            fs::write(folder.path().join(SCHEMA), &schema).expect("a file can be written");
            let begin = Instant::now();
            let said = first_line(start(&format!("start-{}", NAMES[place]), folder.path()));
            times[place].0.push((said - begin).as_secs_f64() * 1e3);
        }
    }
    println!("\n| durable start | ms | fastest | × rusqlite | processes |");
    println!("| --- | ---: | ---: | ---: | ---: |");
    for (name, of_name) in NAMES.iter().zip(&times) {
        let (median, fastest, ratio) = (
            of_name.median(),
            of_name.fastest(),
            of_name.ratio(&times[1]),
        );
        println!("| {name} | {median:.2} | {fastest:.2} | {ratio:.2} | {STARTS} |");
    }
    let [_, raw, own] = &times;
    let text = "durable start: time to the end of a first run ÷ that of rusqlite making the schema"
        .to_owned();
    vec![Target {
        text,
        most: 3.0,
        median: own.ratio(raw),
        fastest: own.fastest() / raw.fastest(),
    }]
}

/// The processor's time that an open runtime takes when there is nothing to do.
pub(super) fn measure_idle() -> Vec<Target> {
    println!(
        "\n| durable idle | ms of processor in {} s |",
        IDLE.as_secs()
    );
    println!("| --- | ---: |");
    let of = |name: &str| {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let millis: f64 = answer(start(&format!("idle-{name}"), folder.path()))
            .parse()
            .expect("a figure");
        println!("| {name} | {millis:.3} |");
        millis
    };
    of("tokio");
    let own = of(flow::NAME);
    let text = format!("durable idle: ms of processor in {} s", IDLE.as_secs());
    vec![Target {
        text,
        most: 1.0,
        median: own,
        fastest: own,
    }]
}

/// The file beside the new database that says what is to be in it.
const SCHEMA: &str = "schema.sql";

/// The statements that make what the library's store has in it.
fn schema(folder: &Path) -> rusqlite::Result<String> {
    let connection = Connection::open(own::file(folder))?;
    let mut select = connection.prepare(
        "SELECT sql || ';' FROM sqlite_schema WHERE sql > '' AND name NOT LIKE 'sqlite_%'",
    )?;
    let statements = select.query_map([], |row| row.get::<_, String>(0))?;
    statements.collect()
}

/// The same database by rusqlite, as sparing of fsyncs as the library: a new one needs no rollback
/// journal on the disk.
fn make(folder: &Path) -> rusqlite::Result<Connection> {
    let schema = fs::read_to_string(folder.join(SCHEMA)).expect("the schema is there");
    let connection = Connection::open(own::file(folder))?;
    connection.execute_batch(raw::PRAGMAS)?;
    connection.query_row("PRAGMA journal_mode = MEMORY", [], |_| Ok(()))?;
    connection
        .query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))
        .optional()?;
    connection.execute_batch(&format!("BEGIN IMMEDIATE; {schema} COMMIT;"))?;
    Ok(connection)
}

pub(super) fn start(what: &str, folder: &Path) -> Child {
    let program = env::current_exe().expect("this program has a file");
    let mut command = Command::new(program);
    command
        .args([CHILD, what])
        .arg(folder)
        .stdout(Stdio::piped());
    command.spawn().expect("this program can be started again")
}

/// When a process said its line. It is waited for until its end, as the next one is not to meet it.
fn first_line(child: Child) -> Instant {
    let mut said = None;
    wait(child, |_| said = Some(Instant::now()));
    said.expect("the process says something")
}

/// What a process says.
fn answer(child: Child) -> String {
    let mut answer = String::new();
    wait(child, |line| answer = line);
    answer
}

fn wait(mut child: Child, mut line: impl FnMut(String)) {
    let output = child.stdout.take().expect("the output is a pipe");
    for said in BufReader::new(output).lines() {
        line(said.expect("the output is text"));
    }
    let status = child.wait().expect("the process is there");
    assert!(status.success(), "the process ended with {status}");
}

pub(super) fn say(line: &str) {
    println!("{line}");
    io::stdout().flush().expect("somebody listens");
}

/// The most memory that this process had at once.
fn peak_mib() -> f64 {
    let status = fs::read_to_string("/proc/self/status").expect("the system is Linux");
    let peak = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .expect("the system knows it");
    let kib: f64 = peak
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .expect("a figure");
    kib / 1024.0
}

/// What the process uses of the processor while it has nothing to do.
pub(crate) async fn idle_millis() -> f64 {
    // what was left to be done, as a checkpoint
    tokio::time::sleep(Duration::from_millis(500)).await;
    let before = processor_millis();
    tokio::time::sleep(IDLE).await;
    processor_millis() - before
}

/// The time that the threads of this process have been on a processor: `stat` would tell it in
/// hundredths of a second.
fn processor_millis() -> f64 {
    let threads = fs::read_dir("/proc/self/task").expect("the system is Linux");
    let of_thread = |thread: fs::DirEntry| {
        // a thread that has just ended has no time
        let times = fs::read_to_string(thread.path().join("schedstat")).unwrap_or_default();
        times
            .split(' ')
            .next()
            .and_then(|nanos| nanos.parse::<f64>().ok())
            .unwrap_or(0.0)
    };
    threads.flatten().map(of_thread).sum::<f64>() / 1e6
}
