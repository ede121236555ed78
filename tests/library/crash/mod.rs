//! Processes that die, and what the next ones make of it.
//!
//! The processes are this test binary, run again at [`child`] alone: a variable says what it is to
//! act. Bodies of tasks note in a file what they do; what is committed is read from the database
//! itself, with a connection that only reads.

mod backfilled;
mod blamed;
mod changed;
mod deployed;
mod logged;
mod points;
mod random;
mod rerun;
mod served;
mod stopped;
mod taken;
mod tasks;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs::OpenOptions;
use std::ops::Deref;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use orchestrator::RunRecord;
use orchestrator::prelude::*;
use rusqlite::{Connection, OpenFlags};
use serde::{Deserialize, Serialize};
use tasks::Made;

use crate::support::Random;

/// What the other process acts, where it finds the store, and at which hit of which point it dies
/// (`name 3`).
const ACT: &str = "CRASH_ACT";
const FOLDER: &str = "CRASH_FOLDER";
const DIES_AT: &str = "CRASH_DIES_AT";
/// Its grace period, in milliseconds.
const GRACE: &str = "CRASH_GRACE";

/// How long anything may take here.
const PATIENCE: Duration = Duration::from_secs(60);

const SIGINT: i32 = 2;
const SIGABRT: i32 = 6;
const SIGKILL: i32 = 9;
const SIGTERM: i32 = 15;
/// What is added to the number of a signal that a process ended by: its exit status.
const SIGNALLED: i32 = 128;
/// The exit status of a process that stopped and left runs.
const RUNS_LEFT: i32 = 75;

/// The other process.
#[test]
fn child() {
    let Ok(act) = std::env::var(ACT) else { return };
    if let Ok(death) = std::env::var(DIES_AT) {
        let (point, hit) = death.split_once(' ').unwrap();
        let (hits, hit) = (AtomicU32::new(0), hit.parse::<u32>().unwrap());
        let reach = move || {
            if hits.fetch_add(1, Ordering::SeqCst) + 1 == hit {
                std::process::abort();
            }
        };
        fail::cfg_callback(point, reach).unwrap();
    }
    match act.as_str() {
        "kept_thread" => {
            return logged::keep_all_threads(&mut tokio::runtime::Builder::new_current_thread());
        }
        "kept_threads" => {
            return logged::keep_all_threads(
                tokio::runtime::Builder::new_multi_thread().worker_threads(1),
            );
        }
        _ => {}
    }
    let tokio = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let status = tokio.block_on(async {
        // some bodies never end by themselves
        let grace = std::env::var(GRACE).map(|grace| grace.parse().unwrap());
        let grace =
            Duration::from_millis(grace.unwrap_or(if act == "taken" { 200 } else { 30_000 }));
        let runtime = Runtime::builder()
            .store(Place::here().url())
            .grace(grace)
            .build()
            .await
            .unwrap();
        match act.as_str() {
            "resume" => drop(runtime.resume().await.unwrap()),
            "points" => points::act(&runtime).await,
            "random" => random::act(&runtime).await,
            "rerun" => rerun::act(&runtime).await,
            "changed" => changed::act(&runtime).await,
            "taken" => taken::act(&runtime).await,
            "blamed" => blamed::act(&runtime).await,
            "served" => return served::act(&runtime).await,
            "deployed" => return deployed::act(&runtime).await,
            "logged" => logged::act(&runtime).await,
            "stopped" => return stopped::act(&runtime).await,
            unknown => panic!("nothing acts `{unknown}`"),
        }
        0
    });
    // whoever waits is to know how it ended, not only whether it was well
    #[expect(
        clippy::exit,
        reason = "the test harness has two exit statuses of its own"
    )]
    std::process::exit(status);
}

/// The tasks whose success is committed: whose result is in which cell of which run.
type Committed = BTreeMap<(Vec<u8>, (i64, i64)), Option<String>>;

/// The states of tasks, at the positions of their codes in the database.
const TASK_STATES: [TaskState; 8] = [
    TaskState::Pending,
    TaskState::Running,
    TaskState::Retrying,
    TaskState::Success,
    TaskState::Failed,
    TaskState::Skipped,
    TaskState::UpstreamFailed,
    TaskState::Cancelled,
];

/// The states of runs, at the positions of their codes in the database.
const RUN_STATES: [RunState; 5] = [
    RunState::Pending,
    RunState::Running,
    RunState::Success,
    RunState::Failed,
    RunState::Cancelled,
];

/// A folder with a store, and with what was done.
#[derive(Clone, Debug)]
struct Place(Arc<Folder>);

/// A folder, which goes with its test where that is content.
#[derive(Debug)]
struct Folder {
    path: PathBuf,
    is_own: bool,
}

impl Deref for Folder {
    type Target = PathBuf;

    fn deref(&self) -> &PathBuf {
        &self.path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if self.is_own && !std::thread::panicking() {
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}

impl Place {
    fn new(name: &str) -> Self {
        let path = crate::support::new_folder(&format!("crash-{name}"));
        Self(Arc::new(Folder { path, is_own: true }))
    }

    /// In the other process.
    fn here() -> Self {
        let path = std::env::var_os(FOLDER).unwrap().into();
        Self(Arc::new(Folder {
            path,
            is_own: false,
        }))
    }

    fn database(&self) -> PathBuf {
        self.0.join("state.db")
    }

    fn url(&self) -> String {
        format!("sqlite:{}", self.database().display())
    }

    /// Starts another process.
    fn start(&self, act: &str, variables: &[(&str, &str)]) -> Process {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["crash::child", "--exact", "--nocapture", "--test-threads=1"]);
        command
            .env_remove(DIES_AT)
            .env("RUST_BACKTRACE", "0")
            .env(ACT, act)
            .env(FOLDER, &self.0.path)
            .envs(variables.iter().copied());
        let said = OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.0.join("said"))
            .unwrap();
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(said)
            .spawn()
            .unwrap();
        Process {
            child,
            place: self.clone(),
        }
    }

    /// Lets another process act to its end.
    fn acts(&self, act: &str, variables: &[(&str, &str)]) {
        let status = self.start(act, variables).wait();
        assert!(status.success(), "{act}: {status}: {}", self.said());
    }

    /// Lets another process die at a hit of a point.
    fn dies(&self, act: &str, variables: &[(&str, &str)], point: &str, hit: u32) {
        let death = format!("{point} {hit}");
        let variables: Vec<_> = variables
            .iter()
            .copied()
            .chain([(DIES_AT, death.as_str())])
            .collect();
        let status = self.start(act, &variables).wait();
        let died = status.signal() == Some(SIGABRT);
        assert!(
            died,
            "{act} never came to `{point}` for the {hit}. time: {status}: {}",
            self.said()
        );
    }

    /// What the other processes said.
    fn said(&self) -> String {
        let said = std::fs::read_to_string(self.0.join("said")).unwrap_or_default();
        format!("{said}\n{}", self.0.display())
    }

    /// What stands at the end of a line of `effects`: without it, its process was killed while it
    /// wrote the line.
    const END_OF_EFFECT: &str = ".\n";

    /// What was done, line by line.
    fn effects(&self) -> Vec<String> {
        let effects = std::fs::read_to_string(self.0.join("effects")).unwrap_or_default();
        let whole = effects
            .split_inclusive('\n')
            .filter_map(|line| line.strip_suffix(Self::END_OF_EFFECT));
        whole.map(str::to_owned).collect()
    }

    /// The database, to be looked at; none where no process lived long enough to make one.
    fn look(&self) -> Option<Connection> {
        let connection =
            Connection::open_with_flags(self.database(), OpenFlags::SQLITE_OPEN_READ_ONLY).ok()?;
        connection.busy_timeout(PATIENCE).unwrap();
        let made = "SELECT count(*) FROM sqlite_master WHERE name = 'attempts'";
        (connection
            .query_row(made, [], |row| row.get::<_, i64>(0))
            .unwrap()
            == 1)
            .then_some(connection)
    }

    /// The rows of all attempts, in order.
    fn rows(&self) -> Vec<AttemptRow> {
        let Some(connection) = self.look() else {
            return Vec::new();
        };
        let mut select = connection
            .prepare(
                "SELECT runs.id, number, frame, cell, attempt, attempts.state, attempts.started, took, body \
                 FROM attempts JOIN runs USING (run) ORDER BY run, number",
            )
            .unwrap();
        let rows = select.query_map([], |row| {
            Ok(AttemptRow {
                run: row.get(0)?,
                number: row.get(1)?,
                cell: (row.get(2)?, row.get(3)?),
                attempt: row.get(4)?,
                state: TASK_STATES[usize::from(row.get::<_, u8>(5)?)],
                started: row.get(6)?,
                took: row.get(7)?,
                body: row.get(8)?,
            })
        });
        rows.unwrap().collect::<Result<_, _>>().unwrap()
    }

    /// Whether a task runs alone for the third time, since it may have killed its process. If the
    /// process died now, the task would be blamed: by all that is on record, it was the task.
    fn is_on_last_trial(&self) -> bool {
        let mut trials = HashMap::<_, (u32, bool)>::new();
        for row in self.rows() {
            let is_trial = row.state == TaskState::Running && row.is_alone();
            let (count, on_trial) = trials.entry((row.run, row.cell)).or_default();
            *count += u32::from(is_trial);
            *on_trial = is_trial;
        }
        let mut trials = trials.into_values();
        trials.any(|(count, on_trial)| on_trial && count > 2)
    }

    /// The recorded state of the only run.
    fn run_state(&self) -> RunState {
        RUN_STATES[usize::try_from(self.of_run("state")).unwrap()]
    }

    /// Whether a process has the only run.
    fn is_owned(&self) -> bool {
        self.of_run("owner IS NOT NULL") == 1
    }

    /// A number of the only run, as `takeovers`.
    fn of_run(&self, column: &str) -> i64 {
        let connection = self.look().unwrap();
        connection
            .query_row(
                &format!("SELECT coalesce({column}, -1) FROM runs"),
                [],
                |row| row.get(0),
            )
            .unwrap()
    }

    /// The tasks whose success is committed: whose row it is by its cell. One has one row of
    /// success, and none after it; its attempts are numbered upwards.
    fn committed(&self) -> Committed {
        let mut last: BTreeMap<_, AttemptRow> = BTreeMap::new();
        for row in self.rows() {
            if let Some(before) = last.get(&(row.run.clone(), row.cell)) {
                assert!(
                    !before.state.is_final(),
                    "a row after the end: {before:?}, then {row:?}\n{}",
                    self.said()
                );
                assert!(before.attempt <= row.attempt, "{before:?}, then {row:?}");
            }
            last.insert((row.run.clone(), row.cell), row);
        }
        last.into_iter()
            .filter(|(_, row)| row.state == TaskState::Success)
            .map(|(cell, row)| (cell, self.whose(&row)))
            .collect()
    }

    /// Whose result a row has; none where it is that of a flow in a flow, whose result is its
    /// tasks', or an empty list.
    fn whose(&self, row: &AttemptRow) -> Option<String> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Result {
            One(Made),
            Many(Vec<Made>),
        }
        let (flags, mut rest) = row.body.as_deref()?.split_first()?;
        if flags & 1 != 0 {
            // a note of the cache, after its length
            rest = &rest[2 + usize::from(u16::from_le_bytes([rest[0], rest[1]]))..];
        }
        let result = match flags & 2 {
            0 => rest.to_vec(),
            // a reference to a blob: its hash comes first
            2 => {
                let hash: String = rest[..32]
                    .iter()
                    .map(|byte| format!("{byte:02x}"))
                    .collect();
                let number = u64::from_le_bytes(rest[40..].try_into().unwrap());
                let file = format!(
                    "state.db-blobs/{}/{}-{number:x}.blob",
                    &hash[..2],
                    &hash[2..]
                );
                std::fs::read(self.0.join(file)).unwrap()
            }
            _ => unreachable!(),
        };
        match rmp_serde::from_slice(&result).unwrap() {
            Result::One(made) => Some(made.whose),
            Result::Many(made) => Some(made.first()?.whose.clone()),
        }
    }

    fn check_integrity(&self) {
        let connection = self.look().unwrap();
        let found: String = connection
            .query_row("PRAGMA integrity_check", [], |row| row.get(0))
            .unwrap();
        assert_eq!(found, "ok", "{}", self.0.display());
    }

    /// The records of a flow's runs.
    fn records(&self, flow: &str) -> Vec<RunRecord> {
        let tokio = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        tokio.block_on(async {
            let runtime = Runtime::builder().store(self.url()).build().await.unwrap();
            runtime.runs(flow).await.unwrap()
        })
    }

    /// The record of a flow's only run.
    fn record(&self, flow: &str) -> RunRecord {
        let mut records = self.records(flow);
        assert_eq!(records.len(), 1);
        records.remove(0)
    }

    /// Waits until something can be seen.
    #[expect(
        clippy::disallowed_methods,
        reason = "what other processes do is waited for on a thread of its own"
    )]
    fn wait_until(&self, what: &str, mut holds: impl FnMut() -> bool) {
        let started = Instant::now();
        while !holds() {
            assert!(
                started.elapsed() < PATIENCE,
                "waited in vain until {what}: {}",
                self.said()
            );
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn wait_for_effect(&self, what: &str) {
        self.wait_until(what, || {
            self.effects().iter().any(|line| line.contains(what))
        });
    }
}

/// A row of `attempts`.
#[derive(Clone, Debug, PartialEq)]
struct AttemptRow {
    run: Vec<u8>,
    number: i64,
    cell: (i64, i64),
    attempt: i64,
    state: TaskState,
    started: i64,
    took: i64,
    body: Option<Vec<u8>>,
}

impl AttemptRow {
    /// Whether the attempt starts alone, as the flags of its row say.
    fn is_alone(&self) -> bool {
        const ALONE: u8 = 16;
        let flags = self.body.as_deref().and_then(<[u8]>::first);
        flags.is_some_and(|flags| flags & ALONE != 0)
    }

    /// The result, where there is one in the row.
    fn made(&self) -> Option<Made> {
        let (flags, rest) = self
            .body
            .as_deref()
            .filter(|_| self.state == TaskState::Success)?
            .split_first()?;
        (*flags == 0).then(|| rmp_serde::from_slice(rest).unwrap())
    }
}

/// Another process.
struct Process {
    child: Child,
    place: Place,
}

impl Process {
    /// Sends a signal, by its name.
    fn signal(&self, name: &str) {
        let sent = Command::new("kill")
            .args([&format!("-{name}"), &self.child.id().to_string()])
            .status()
            .unwrap();
        assert!(sent.success(), "{}", self.place.said());
    }

    fn is_over(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    fn wait(mut self) -> ExitStatus {
        let place = self.place.clone();
        place.wait_until("a process ends", || self.is_over());
        self.child.wait().unwrap()
    }

    /// Kills it, unless it is over: then how it ended.
    fn kill(mut self) -> ExitStatus {
        self.child.kill().unwrap();
        self.child.wait().unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What was committed when a process died, and how much had been done.
struct Death {
    committed: Committed,
    effects: usize,
}

/// What was there at each death.
struct History {
    place: Place,
    deaths: Vec<Death>,
}

impl History {
    fn new(place: &Place) -> Self {
        Self {
            place: place.clone(),
            deaths: Vec::new(),
        }
    }

    /// Looks at what there is after a death: nothing that was committed before is gone or is
    /// another's.
    fn died(&mut self) {
        let death = Death {
            committed: self.place.committed(),
            effects: self.place.effects().len(),
        };
        if let Some(before) = self.deaths.last() {
            for (cell, whose) in &before.committed {
                assert_eq!(
                    death.committed.get(cell),
                    Some(whose),
                    "{cell:?}: {}",
                    self.place.said()
                );
            }
        }
        self.deaths.push(death);
    }

    /// Looks at what there is at the end: what was committed at a death did not run again.
    fn check(mut self) {
        self.died();
        let effects = self.place.effects();
        for (number, death) in self.deaths.iter().enumerate() {
            let again = started(&effects[death.effects..]);
            let again: Vec<_> = death
                .committed
                .values()
                .flatten()
                .filter(|whose| again.contains(*whose))
                .collect();
            assert!(
                again.is_empty(),
                "done before death {number}, and again: {again:?}: {}",
                self.place.said()
            );
        }
        let mut tries = HashSet::new();
        for start in effects.iter().filter(|line| line.starts_with("start ")) {
            // each try of a task has a number of its own
            assert!(tries.insert(start), "twice: {start}: {}", self.place.said());
        }
        self.place.check_integrity();
    }

    /// The same, where all tasks succeed: whatever was started is committed.
    fn check_all(self) {
        let committed: BTreeSet<String> = self.place.committed().into_values().flatten().collect();
        assert_eq!(
            committed,
            started(&self.place.effects()),
            "{}",
            self.place.said()
        );
        self.check();
    }
}

/// The tasks that were started.
fn started(effects: &[String]) -> BTreeSet<String> {
    let starts = effects
        .iter()
        .filter_map(|line| line.strip_prefix("start "));
    starts
        .filter_map(|line| line.split(' ').next())
        .map(str::to_owned)
        .collect()
}

/// The tasks of a run that are no success.
fn unsuccessful(record: &RunRecord) -> Vec<String> {
    let unsuccessful = record
        .tasks()
        .iter()
        .filter(|task| task.state() != TaskState::Success);
    unsuccessful.map(|task| format!("{task:?}")).collect()
}
