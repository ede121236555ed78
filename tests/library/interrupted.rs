//! Runs that are interrupted in this process, wherever they are: the tokio runtime goes, and all that was in it; another
//! runtime on the same file goes on. What comes of a run is what comes of one that nobody interrupted.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use orchestrator::prelude::*;
use orchestrator::{RunId, RunRecord, Runtime};
use parking_lot::Mutex;
use proptest::prelude::{Strategy, any};
use proptest::test_runner::{Config, RngSeed, TestCaseError, TestRunner};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

/// Longer than anything here takes.
const LIMIT: Duration = Duration::from_secs(8);

/// The bodies of a run that started: by key, in which life of the run and with which attempt.
#[derive(Debug, Default)]
struct Seen {
    life: u32,
    starts: BTreeMap<String, Vec<(u32, u32)>>,
    results: BTreeMap<String, u64>,
}

static SEEN: LazyLock<Mutex<HashMap<RunId, Seen>>> = LazyLock::new(Mutex::default);
/// How many bodies have started in this life.
static STARTED: LazyLock<watch::Sender<u32>> = LazyLock::new(|| watch::channel(0).0);

/// What a task does: nothing special, wait, wait longer, fail, fail once, skip, fail for good.
const CALM: [u8; 4] = [0, 0, 1, 2];
const FAILING: [u8; 8] = [0, 0, 1, 2, 3, 3, 4, 6];
const SKIPPING: [u8; 6] = [0, 0, 1, 2, 4, 5];

fn begin(context: &Context) {
    let mut seen = SEEN.lock();
    let seen = seen.entry(context.run_id()).or_default();
    let life = seen.life;
    seen.starts
        .entry(context.key().to_owned())
        .or_default()
        .push((life, context.attempt()));
    STARTED.send_modify(|started| *started += 1);
}

fn end(context: &Context, act: u8, value: u64) -> Result<u64> {
    match act {
        3 if value.is_multiple_of(3) => return Err(format!("{value} is not wanted").into()),
        4 if context.attempt() == 1 => return Err("once".into()),
        5 if value.is_multiple_of(3) => return Err(skip(format!("{value} is nothing")).into()),
        6 if value.is_multiple_of(5) => return Err(fatal(format!("{value} is fatal")).into()),
        _ => {}
    }
    SEEN.lock()
        .entry(context.run_id())
        .or_default()
        .results
        .insert(context.key().to_owned(), value);
    Ok(value)
}

fn mix(seed: u64, values: impl IntoIterator<Item = u64>) -> u64 {
    values.into_iter().fold(seed, |sum, value| {
        sum.wrapping_mul(31).wrapping_add(value) % 1_000_003
    })
}

async fn pause(act: u8) {
    match act {
        1 => tokio::task::yield_now().await,
        2 => tokio::time::sleep(Duration::from_micros(700)).await,
        _ => {}
    }
}

#[task(retry_delay = "2ms")]
async fn one(input: u64, act: u8, #[context] context: &Context) -> Result<u64> {
    begin(context);
    pause(act).await;
    end(context, act, mix(1, [input]))
}

#[task(retry_delay = "2ms")]
fn blocking(input: u64, act: u8, #[context] context: &Context) -> Result<u64> {
    begin(context);
    if act == 2 {
        std::thread::park_timeout(Duration::from_micros(500));
    }
    end(context, act, mix(2, [input]))
}

#[task(retry_delay = "2ms")]
async fn two(a: u64, b: u64, act: u8, #[context] context: &Context) -> Result<u64> {
    begin(context);
    pause(act).await;
    end(context, act, mix(3, [a, b]))
}

#[task(retry_delay = "2ms")]
async fn join(inputs: Vec<u64>, act: u8, #[context] context: &Context) -> Result<u64> {
    begin(context);
    pause(act).await;
    end(context, act, mix(4, inputs))
}

#[task(retry_delay = "2ms")]
async fn maybe(
    a: Option<u64>,
    b: Option<u64>,
    act: u8,
    #[context] context: &Context,
) -> Result<u64> {
    begin(context);
    pause(act).await;
    end(context, act, mix(5, [a.unwrap_or(11), b.unwrap_or(13)]))
}

fn number(outcome: Outcome<u64>) -> u64 {
    match outcome {
        Outcome::Success(value) => value,
        Outcome::Failed(error) => error.to_string().len() as u64 + 1000,
        Outcome::Skipped(reason) => reason.len() as u64 + 2000,
        Outcome::UpstreamFailed => 3000,
    }
}

#[task(retry_delay = "2ms")]
async fn outcome(of: Outcome<u64>, act: u8, #[context] context: &Context) -> Result<u64> {
    begin(context);
    pause(act).await;
    end(context, act, mix(6, [number(of)]))
}

#[task(retry_delay = "2ms")]
async fn outcomes(all: Vec<Outcome<u64>>, act: u8, #[context] context: &Context) -> Result<u64> {
    begin(context);
    pause(act).await;
    end(context, act, mix(7, all.into_iter().map(number)))
}

#[task(retry_delay = "2ms")]
async fn list(n: u32, seed: u64, act: u8, #[context] context: &Context) -> Result<Vec<u64>> {
    begin(context);
    pause(act).await;
    end(context, act, mix(8, [seed]))
        .map(|seed| (0..u64::from(n)).map(|at| mix(9, [seed, at])).collect())
}

/// One step of a flow: what it makes depends on `kind`, from what is there on `a` and `b`.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Step {
    kind: u8,
    a: u16,
    b: u16,
    n: u32,
    act: u8,
    flags: u8,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Steps {
    steps: Vec<Step>,
    named: bool,
}

#[derive(Clone)]
struct World {
    named: bool,
    nodes: Vec<Node<u64>>,
    lists: Vec<Node<Vec<u64>>>,
    mapped: Vec<Mapped<u64>>,
}

fn with(node: Node<u64>, act: u8) -> Node<u64> {
    match act {
        3 => node.retries(1),
        4 => node.retries(5),
        _ => node,
    }
}

#[flow(name = "interrupted_inner")]
fn inner(n: u64, act: u8) -> Node<u64> {
    let first = with(one(n, act), act);
    two(&first, one(&first, 2), 0)
}

#[flow(name = "interrupted_inner_body")]
async fn inner_body(n: u64, act: u8) -> Result<u64> {
    let first = with(one(n, act), act).await?;
    let second = one(first, 1).await?;
    Ok(two(first, second, 0).await?)
}

#[flow(name = "interrupted_inner_mapped")]
fn inner_mapped(n: u64, act: u8) -> Node<u64> {
    join(
        list((n % 4) as u32, n, 0).expand(move |x| with(one(x, act), act)),
        0,
    )
}

impl World {
    fn new(named: bool) -> Self {
        let nodes = vec![one(17_u64, 0), blocking(18_u64, 2)];
        let lists = vec![list(3_u32, 5_u64, 1)];
        let mapped = vec![lists[0].expand(|x| one(x, 1))];
        Self {
            named,
            nodes,
            lists,
            mapped,
        }
    }

    fn node(&self, at: u16) -> &Node<u64> {
        &self.nodes[at as usize % self.nodes.len()]
    }

    fn add(&mut self, at: usize, node: Node<u64>, step: &Step) {
        let node = with(node, step.act);
        let node = if self.named {
            node.named(format!("s{at}"))
        } else {
            node
        };
        self.nodes.push(if step.flags & 1 != 0 {
            node.allow_failure()
        } else {
            node
        });
    }

    fn step(&mut self, at: usize, step: &Step) {
        let Step {
            kind,
            a,
            b,
            n,
            act,
            flags,
        } = *step;
        let (first, second) = (self.node(a).clone(), self.node(b).clone());
        let source = self.lists[a as usize % self.lists.len()].clone();
        let mapped = self.mapped[b as usize % self.mapped.len()].clone();
        let name = self.named.then(|| format!("s{at}"));
        let named = move |node: Node<u64>, part: &str| match &name {
            Some(name) => node.named(format!("{name}{part}")),
            None => node,
        };
        match kind % 20 {
            0 => self.add(at, one(first, act), step),
            1 => self.add(at, blocking(first, act), step),
            2 => self.add(at, two(first, second, act), step),
            3 => {
                let third = self.node(a ^ b).clone();
                self.add(at, join(gather([first, second, third]), act), step);
            }
            4 => self.add(at, maybe(first, second, act), step),
            5 => self.add(
                at,
                maybe(first, second, act).trigger(Trigger::AllDone),
                step,
            ),
            6 => self.add(at, outcome(first, act), step),
            7 => self.add(at, one(u64::from(n), act).after(first).after(second), step),
            8 => self.add(
                at,
                one(u64::from(n), act)
                    .after(first)
                    .after(second)
                    .trigger(Trigger::OneDone),
                step,
            ),
            9 => {
                let source = list(n % 6, first, act);
                self.lists.push(match (act, self.named) {
                    (3 | 4, _) => source.retries(5),
                    _ => source,
                });
            }
            10 => {
                let made = source.expand(move |x| named(with(one(x, act), act), "a"));
                self.mapped.push(if flags & 2 != 0 {
                    made.concurrency(1 + n % 3)
                } else {
                    made
                });
            }
            11 => {
                let made = source.expand(move |x| {
                    let deeper = named(with(two(&x, &first, act), act), "a");
                    named(two(named(blocking(x, 0), "b"), deeper, 1), "c")
                });
                self.mapped.push(if flags & 2 != 0 {
                    made.concurrency(1 + n % 3)
                } else {
                    made
                });
            }
            12 => {
                let made = mapped.expand(move |x| named(with(one(x, act), act), "a"));
                self.mapped.push(made);
            }
            13 => self.add(at, join(&mapped, act), step),
            14 => self.add(at, outcomes(&mapped, act), step),
            15 => {
                let bare = source.expand(|x| x.map(|x| x + 1));
                self.add(at, join(bare, act), step);
            }
            16 => {
                let made = source.expand(move |x| {
                    let deeper = list(n % 4, &x, 0).expand({
                        let (named, x) = (named.clone(), x);
                        move |y| named(with(two(y, &x, act), act), "a")
                    });
                    match flags & 4 {
                        0 => named(join(deeper, 0), "b"),
                        _ => named(outcomes(deeper, 0), "b"),
                    }
                });
                self.mapped.push(if flags & 2 != 0 {
                    made.concurrency(1 + n % 3)
                } else {
                    made
                });
            }
            17 => {
                let made = expand((0..u64::from(n % 5)).collect::<Vec<_>>(), move |x| {
                    named(with(maybe(x, &first, act), act), "a")
                });
                self.mapped.push(made);
            }
            18 => {
                let node = match flags >> 4 & 3 {
                    0 => one(inner(u64::from(n), act), 0),
                    1 => one(inner_body(u64::from(n), act), 0),
                    2 => maybe(
                        inner_mapped(u64::from(n), act),
                        inner(u64::from(n) + 1, act),
                        0,
                    )
                    .trigger(Trigger::AllDone),
                    _ => outcome(inner_body(u64::from(n), act), 0),
                };
                self.add(at, node, &Step { act: 0, ..*step });
            }
            _ => self.add(at, one(first.map(|x| x ^ 1), act), step),
        }
    }
}

#[flow(name = "interrupted_static")]
fn fixed(steps: Steps) {
    let mut world = World::new(steps.named);
    for (at, step) in steps.steps.iter().enumerate() {
        world.step(at, step);
    }
}

#[flow(name = "interrupted_timed", timeout = "25ms")]
fn timed(steps: Steps) {
    let mut world = World::new(steps.named);
    for (at, step) in steps.steps.iter().enumerate() {
        world.step(at, step);
    }
    one(tokio_sleeps(), 0);
}

#[task]
async fn tokio_sleeps() -> u64 {
    tokio::time::sleep(Duration::from_secs(2)).await;
    3
}

#[flow(name = "interrupted_body")]
async fn decided(steps: Steps, fails: bool) -> Result<u64> {
    let mut world = World::new(true);
    let mut sum = 1;
    for (at, step) in steps.steps.iter().enumerate() {
        if step.flags & 8 == 0 {
            world.step(at, step);
            continue;
        }
        let (first, second) = (world.node(step.a).clone(), world.node(step.b).clone());
        match step.kind % 6 {
            0 => {
                let value = first.await.unwrap_or(7);
                sum = mix(sum, [value]);
                world.add(at, one(value, step.act), step);
            }
            1 => {
                let branch = |node: Node<u64>, part: &'static str| async move {
                    let value = node.await.unwrap_or(5);
                    let next = one(value, step.act)
                        .named(format!("j{at}{part}"))
                        .allow_failure();
                    if value % 2 == 0 {
                        next.await.unwrap_or(3)
                    } else {
                        value
                    }
                };
                let (a, b) = tokio::join!(branch(first, "a"), branch(second, "b"));
                sum = mix(sum, [a, b]);
            }
            2 => {
                let (a, b) = (
                    one(1_u64, 2).named(format!("p{at}")),
                    one(2_u64, 1).named(format!("q{at}")),
                );
                tokio::select! { _ = a => {}, _ = b => {} }
                world.add(at, one(u64::from(step.n), step.act), step);
            }
            3 => {
                let mapped = world.mapped[step.a as usize % world.mapped.len()].clone();
                let all: Vec<u64> = mapped.await.unwrap_or_default();
                sum = mix(sum, all.iter().copied());
                let act = step.act;
                world.mapped.push(expand(all, move |x| {
                    with(one(x, act), act).named(format!("m{at}"))
                }));
            }
            4 => {
                let (a, b) = (first.clone().await.unwrap_or(1), first.await.unwrap_or(2));
                sum = mix(sum, [a, b, second.await.unwrap_or(3)]);
            }
            _ => {
                let (a, b) = tokio::join!(
                    inner_body(u64::from(step.n), step.act),
                    inner(u64::from(step.n), step.act)
                );
                sum = mix(sum, [a.unwrap_or(3), b.unwrap_or(5)]);
            }
        }
    }
    if fails {
        Err(format!("gave up at {sum}").into())
    } else {
        Ok(sum)
    }
}

/// How a run is interrupted.
#[derive(Clone, Copy, Debug)]
struct Interruption {
    /// 0: the tokio runtime goes; 1: the runtime stops; 2: the run is cancelled, and the runtime goes soon.
    how: u8,
    /// After so many bodies have started.
    bodies: Option<u32>,
    micros: u64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Which {
    Fixed,
    Decided,
    Failing,
    Timed,
}

#[derive(Clone, Debug)]
struct Case {
    which: Which,
    steps: Steps,
    interruptions: Vec<Interruption>,
}

fn cases() -> impl Strategy<Value = Case> {
    let step = (
        0..20_u8,
        any::<u16>(),
        any::<u16>(),
        0..30_u32,
        any::<u8>(),
        any::<u8>(),
    );
    let interruption = (
        0..12_u8,
        proptest::option::weighted(0.7, 0..40_u32),
        0..6000_u64,
    );
    let which = 0..10_u8;
    (
        proptest::collection::vec(step, 0..14),
        proptest::collection::vec(interruption, 1..4),
        which,
        0..3_u8,
        any::<bool>(),
    )
        .prop_map(|(steps, interruptions, which, flavour, named)| {
            let acts: &[u8] = [&CALM[..], &FAILING[..], &SKIPPING[..]][flavour as usize];
            let steps = steps.into_iter().map(|(kind, a, b, n, act, flags)| Step {
                kind,
                a,
                b,
                n,
                act: acts[act as usize % acts.len()],
                flags,
            });
            let which = match which {
                0..4 => Which::Fixed,
                4..8 => Which::Decided,
                8 => Which::Failing,
                _ => Which::Timed,
            };
            let mut crashes = 0;
            let interruptions = interruptions.into_iter().map(|(how, bodies, micros)| {
                let mut how = match how {
                    0..8 => 0,
                    8..11 => 1,
                    _ => 2,
                };
                crashes += u32::from(how != 1);
                // at the third crash in a row what runs has failed
                if crashes > 2 {
                    how = 1;
                }
                Interruption {
                    how,
                    bodies,
                    micros: if bodies.is_some() {
                        micros % 400
                    } else {
                        micros
                    },
                }
            });
            // most of it is to come about where the time is up
            let interruptions = interruptions.map(|interruption| match which {
                Which::Timed => Interruption {
                    bodies: None,
                    micros: 24_000 + interruption.micros % 4000,
                    ..interruption
                },
                _ => interruption,
            });
            Case {
                which,
                steps: Steps {
                    steps: steps.collect(),
                    named,
                },
                interruptions: interruptions.collect(),
            }
        })
}

async fn start(case: &Case, runtime: &Runtime) -> orchestrator::RunHandle<()> {
    let steps = case.steps.clone();
    match case.which {
        Which::Fixed => fixed(steps).on(runtime).start().await.unwrap(),
        Which::Timed => timed(steps).on(runtime).start().await.unwrap(),
        Which::Decided | Which::Failing => unreachable!(),
    }
}

fn flow_name(which: Which) -> &'static str {
    match which {
        Which::Fixed => "interrupted_static",
        Which::Timed => "interrupted_timed",
        Which::Decided | Which::Failing => "interrupted_body",
    }
}

fn threads() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
}

/// What is to be the same, however often a run was interrupted.
#[derive(Debug, PartialEq)]
struct Ends {
    state: RunState,
    error: Vec<String>,
    tasks: Vec<(String, TaskState, Option<String>)>,
    results: BTreeMap<String, u64>,
}

fn ends(which: Which, record: &RunRecord) -> Ends {
    let mut seen = SEEN.lock();
    let seen = seen.entry(record.id()).or_default();
    let mut tasks: Vec<_> = record
        .tasks()
        .iter()
        .map(|task| {
            let own = task.attempts() > 0 && task.state() != TaskState::UpstreamFailed;
            let own = own && !task.name().starts_with("interrupted_");
            let error = own.then(|| task.error().map(ToString::to_string)).flatten();
            (task.key(), task.state(), error)
        })
        .collect();
    let in_flows = tasks.iter().any(|(key, ..)| key.contains('/'));
    if which != Which::Fixed || in_flows {
        tasks.sort_by(|a, b| a.0.cmp(&b.0));
    }
    // the order in which failures are named depends on which mapping opened first
    let mut error: Vec<String> = record
        .error()
        .map(ToString::to_string)
        .iter()
        .flat_map(|text| text.split("; ").map(str::to_owned))
        .collect();
    error.sort();
    if error.iter().any(|part| part.starts_with("and ")) {
        error.clear();
    }
    let success: Vec<&str> = tasks
        .iter()
        .filter(|(_, state, _)| *state == TaskState::Success)
        .map(|(key, ..)| key.as_str())
        .collect();
    let results = seen
        .results
        .iter()
        .filter(|(key, _)| success.contains(&key.as_str()));
    let results = results.map(|(key, value)| (key.clone(), *value)).collect();
    Ends {
        state: record.state(),
        error,
        tasks,
        results,
    }
}

macro_rules! ensure {
    ($condition:expr, $($text:tt)+) => {
        if !$condition {
            return Err(TestCaseError::fail(format!($($text)+)));
        }
    };
}

/// Waits until nobody owns the runs of a file any more.
fn wait_for_owners(path: &Path) -> Result<(), TestCaseError> {
    let folder = PathBuf::from(format!("{}-owners", path.display()));
    let began = Instant::now();
    while std::fs::read_dir(&folder).is_ok_and(|mut entries| entries.next().is_some()) {
        ensure!(
            began.elapsed() < LIMIT,
            "the store is still open {LIMIT:?} after its tokio runtime went"
        );
        std::thread::park_timeout(Duration::from_micros(200));
    }
    Ok(())
}

async fn open(path: &Path) -> Runtime {
    Runtime::builder()
        .store(format!("sqlite:{}", path.display()))
        .grace(Duration::from_millis(2))
        .build()
        .await
        .unwrap()
}

fn starts_of(id: RunId) -> BTreeMap<String, Vec<(u32, u32)>> {
    SEEN.lock()
        .get(&id)
        .map(|seen| seen.starts.clone())
        .unwrap_or_default()
}

/// Runs a case to its end without an interruption.
fn calmly(case: &Case) -> Result<Ends, TestCaseError> {
    let tokio = threads();
    let record = tokio.block_on(async {
        let runtime = Runtime::in_memory();
        let steps = case.steps.clone();
        let limited = async {
            match case.which {
                Which::Fixed => fixed(steps)
                    .on(&runtime)
                    .run()
                    .await
                    .unwrap()
                    .record()
                    .clone(),
                Which::Timed => timed(steps)
                    .on(&runtime)
                    .run()
                    .await
                    .unwrap()
                    .record()
                    .clone(),
                which => decided(steps, which == Which::Failing)
                    .on(&runtime)
                    .run()
                    .await
                    .unwrap()
                    .record()
                    .clone(),
            }
        };
        tokio::time::timeout(LIMIT, limited).await
    });
    ensure!(record.is_ok(), "a run that nobody interrupts hangs");
    let record = record.unwrap();
    let found = ends(case.which, &record);
    SEEN.lock().remove(&record.id());
    Ok(found)
}

/// Runs a case, and interrupts it.
fn with_interruptions(case: &Case, folder: &Path) -> Result<(), TestCaseError> {
    let expected = calmly(case)?;
    let path = folder.join("runs.db");
    let mut id: Option<RunId> = None;
    let mut cancelled = false;
    let lives = case.interruptions.iter().map(Some).chain([None]);
    for (life, interruption) in (0_u32..).zip(lives) {
        let tokio = threads();
        STARTED.send_replace(0);
        let mut started = STARTED.subscribe();
        let done = tokio.block_on(async {
            let runtime = open(&path).await;
            // what is committed before this life
            let mut before = BTreeMap::new();
            let mut attempts = BTreeMap::new();
            if let Some(id) = id {
                let record = runtime.find_run(id).await.unwrap().unwrap();
                SEEN.lock().entry(id).or_default().life = life;
                let starts = starts_of(id);
                for task in record.tasks() {
                    attempts.insert(task.key(), task.attempts());
                    if task.state().is_final() {
                        before.insert(task.key(), (task.state(), starts.get(&task.key()).map_or(0, Vec::len)));
                    }
                }
            }
            let on = runtime.clone();
            let work = async {
                if life == 0 {
                    let steps = case.steps.clone();
                    match case.which {
                        Which::Fixed | Which::Timed => {
                            let handle = start(case, &on).await;
                            if interruption.is_some_and(|interruption| interruption.how == 2) {
                                let waited = interrupt(interruption, &mut started);
                                let _ = tokio::time::timeout(Duration::from_millis(100), waited).await;
                                handle.cancel();
                            }
                            drop(handle.await);
                        }
                        which => {
                            let handle = decided(steps, which == Which::Failing).on(&on).start().await.unwrap();
                            if interruption.is_some_and(|interruption| interruption.how == 2) {
                                let waited = interrupt(interruption, &mut started);
                                let _ = tokio::time::timeout(Duration::from_millis(100), waited).await;
                                handle.cancel();
                            }
                            drop(handle.await);
                        }
                    }
                } else {
                    drop(on.resume().await);
                }
            };
            let mut trigger = STARTED.subscribe();
            let hung = tokio::select! {
                limited = tokio::time::timeout(LIMIT, work) => limited.is_err(),
                () = interrupt(interruption, &mut trigger) => {
                    match interruption.map(|interruption| interruption.how) {
                        Some(1) => tokio::time::timeout(LIMIT, runtime.stop()).await.is_err(),
                        Some(2) if life == 0 => {
                            tokio::time::sleep(Duration::from_micros(interruption.map_or(0, |at| at.micros) % 300)).await;
                            false
                        }
                        _ => false,
                    }
                }
            };
            cancelled |= life == 0 && interruption.is_some_and(|interruption| interruption.how == 2);
            if hung {
                let record = match id {
                    Some(id) => runtime.find_run(id).await.unwrap(),
                    None => None,
                };
                let tasks = record.as_ref().map(|record| format!("{:#?}", record.tasks()));
                return Err(TestCaseError::fail(format!("life {life} hangs: {record:?} {}", tasks.unwrap_or_default())));
            }
            if life == 0 {
                id = runtime.runs(flow_name(case.which)).await.unwrap().first().map(RunRecord::id);
            }
            Ok((before, attempts))
        });
        tokio.shutdown_background();
        wait_for_owners(&path)?;
        let (before, attempts) = done?;
        // the run was not accepted yet
        let Some(id) = id else { return Ok(()) };
        let starts = starts_of(id);
        for (key, (state, count)) in before {
            let now = starts.get(&key).map_or(0, Vec::len);
            ensure!(
                now == count,
                "{key}, which was {state}, started again: {:?}",
                starts[&key]
            );
        }
        for (key, starts) in &starts {
            for pair in starts.windows(2) {
                let ((life, attempt), (next_life, next)) = (pair[0], pair[1]);
                let may_repeat = life == 0 && next_life > 0;
                ensure!(
                    next > attempt || (may_repeat && next == attempt),
                    "the attempts of {key}: {starts:?}"
                );
            }
            if let (Some(recorded), Some((_, first))) =
                (attempts.get(key), starts.iter().find(|(of, _)| *of == life))
            {
                ensure!(
                    *first == recorded + 1,
                    "{key} had {recorded} attempts, and goes on: {starts:?}"
                );
            }
        }
    }
    let Some(id) = id else { return Ok(()) };
    let record =
        threads().block_on(async { open(&path).await.find_run(id).await.unwrap().unwrap() });
    ensure!(record.state().is_final(), "the run is not final");
    let found = ends(case.which, &record);
    for (key, state, error) in &found.tasks {
        let all = || {
            format!(
                "{:?}: {}",
                starts_of(id).get(key),
                difference(&expected, &found)
            )
        };
        ensure!(
            state.is_final(),
            "{key} is {state} in a run that is {}: {}",
            found.state,
            all()
        );
        let text = error.as_deref().unwrap_or_default();
        ensure!(
            *state != TaskState::Failed || !text.contains("its process died"),
            "{key}: {text}"
        );
    }
    let mut keys: Vec<&String> = found.tasks.iter().map(|(key, ..)| key).collect();
    keys.sort();
    let all = keys.len();
    keys.dedup();
    ensure!(keys.len() == all, "keys are listed twice: {keys:?}");
    SEEN.lock().remove(&id);
    if cancelled && found.state == RunState::Cancelled {
        return Ok(());
    }
    let any_cancelled = found
        .tasks
        .iter()
        .any(|(_, state, _)| *state == TaskState::Cancelled);
    match case.which {
        Which::Timed | Which::Failing => {
            ensure!(
                found.state == RunState::Failed && found.error == expected.error,
                "expected {:?} {:?}, got {:?} {:?}: {:#?}",
                expected.state,
                expected.error,
                found.state,
                found.error,
                found.tasks
            );
        }
        Which::Fixed | Which::Decided => {
            ensure!(!any_cancelled, "something is cancelled: {found:#?}");
            ensure!(found == expected, "{}", difference(&expected, &found));
        }
    }
    Ok(())
}

async fn interrupt(interruption: Option<&Interruption>, started: &mut watch::Receiver<u32>) {
    let Some(Interruption { bodies, micros, .. }) = interruption else {
        return std::future::pending().await;
    };
    if let Some(bodies) = bodies {
        let _ = started.wait_for(|started| started >= bodies).await;
    }
    tokio::time::sleep(Duration::from_micros(*micros)).await;
}

fn difference(expected: &Ends, found: &Ends) -> String {
    let mut text = format!(
        "state {} / {}, error {:?} / {:?}",
        expected.state, found.state, expected.error, found.error
    );
    let by_key = |ends: &Ends| -> BTreeMap<String, String> {
        let line = |(key, state, error): &(String, TaskState, Option<String>)| {
            (
                key.clone(),
                format!("{state} {error:?} {:?}", ends.results.get(key)),
            )
        };
        ends.tasks.iter().map(line).collect()
    };
    let (theirs, own) = (by_key(expected), by_key(found));
    for key in theirs.keys().chain(own.keys()) {
        if theirs.get(key) != own.get(key) {
            text.push_str(&format!(
                "\n  {key}: {:?} / {:?}",
                theirs.get(key),
                own.get(key)
            ));
        }
    }
    let keys = |ends: &Ends| {
        ends.tasks
            .iter()
            .map(|task| task.0.clone())
            .collect::<Vec<_>>()
    };
    if theirs == own {
        text.push_str(&format!(
            "\n  order {:?} / {:?}",
            keys(expected),
            keys(found)
        ));
    }
    text
}

/// One case at a time: they are told apart by their runs, but bodies are counted.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

#[test]
fn a_run_that_is_interrupted_anywhere_ends_as_one_that_was_not() {
    let _one = ONE_AT_A_TIME.lock();
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let cases_to_run = number("INTERRUPTED_CASES").unwrap_or(150) as u32;
    let rng_seed = RngSeed::Fixed(number("INTERRUPTED_SEED").unwrap_or(1));
    let config = Config {
        cases: cases_to_run,
        rng_seed,
        failure_persistence: None,
        max_shrink_iters: number("INTERRUPTED_SHRINK").unwrap_or(30) as u32,
        ..Config::default()
    };
    let folder = crate::support::new_folder("interrupted");
    let number = std::cell::Cell::new(0);
    let result = TestRunner::new(config).run(&cases(), |case| {
        number.set(number.get() + 1);
        let folder = folder.join(number.get().to_string());
        std::fs::create_dir_all(&folder).unwrap();
        let result = with_interruptions(&case, &folder);
        let _ = std::fs::remove_dir_all(&folder);
        result
    });
    if let Err(problem) = result {
        panic!("{problem}");
    }
}
