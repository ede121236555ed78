//! Runs that are interrupted in this process, at any moment: the tokio runtime is dropped with all
//! that was in it, and another runtime on the same file resumes them. They end as runs without an
//! interruption do.

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
const LIMIT: Duration = Duration::from_secs(30);

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

/// What a task does, apart from its result.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
enum Act {
    Nothing,
    Yield,
    Sleep,
    /// Fails if its result is a multiple of three.
    FailThirds,
    /// Fails at its first attempt.
    FailOnce,
    /// Is skipped if its result is a multiple of three.
    SkipThirds,
    /// Fails without retries if its result is a multiple of five.
    FatalFifths,
}

impl Act {
    const CALM: [Self; 4] = [Self::Nothing, Self::Nothing, Self::Yield, Self::Sleep];
    const FAILING: [Self; 8] = [
        Self::Nothing,
        Self::Nothing,
        Self::Yield,
        Self::Sleep,
        Self::FailThirds,
        Self::FailThirds,
        Self::FailOnce,
        Self::FatalFifths,
    ];
    const SKIPPING: [Self; 6] = [
        Self::Nothing,
        Self::Nothing,
        Self::Yield,
        Self::Sleep,
        Self::FailOnce,
        Self::SkipThirds,
    ];
}

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

fn end(context: &Context, act: Act, value: u64) -> Result<u64> {
    match act {
        Act::FailThirds if value.is_multiple_of(3) => {
            return Err(format!("{value} is not wanted").into());
        }
        Act::FailOnce if context.attempt() == 1 => return Err("once".into()),
        Act::SkipThirds if value.is_multiple_of(3) => {
            return Err(skip(format!("{value} is nothing")).into());
        }
        Act::FatalFifths if value.is_multiple_of(5) => {
            return Err(fatal(format!("{value} is fatal")).into());
        }
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

async fn pause(act: Act) {
    match act {
        Act::Yield => tokio::task::yield_now().await,
        Act::Sleep => tokio::time::sleep(Duration::from_micros(700)).await,
        _ => {}
    }
}

#[task(retry_delay = "2ms")]
async fn one(input: u64, act: Act, #[context] context: &Context) -> Result<u64> {
    begin(context);
    pause(act).await;
    end(context, act, mix(1, [input]))
}

#[task(retry_delay = "2ms")]
fn blocking(input: u64, act: Act, #[context] context: &Context) -> Result<u64> {
    begin(context);
    if act == Act::Sleep {
        std::thread::park_timeout(Duration::from_micros(500));
    }
    end(context, act, mix(2, [input]))
}

#[task(retry_delay = "2ms")]
async fn two(a: u64, b: u64, act: Act, #[context] context: &Context) -> Result<u64> {
    begin(context);
    pause(act).await;
    end(context, act, mix(3, [a, b]))
}

#[task(retry_delay = "2ms")]
async fn join(inputs: Vec<u64>, act: Act, #[context] context: &Context) -> Result<u64> {
    begin(context);
    pause(act).await;
    end(context, act, mix(4, inputs))
}

#[task(retry_delay = "2ms")]
async fn maybe(
    a: Option<u64>,
    b: Option<u64>,
    act: Act,
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
async fn outcome(of: Outcome<u64>, act: Act, #[context] context: &Context) -> Result<u64> {
    begin(context);
    pause(act).await;
    end(context, act, mix(6, [number(of)]))
}

#[task(retry_delay = "2ms")]
async fn outcomes(all: Vec<Outcome<u64>>, act: Act, #[context] context: &Context) -> Result<u64> {
    begin(context);
    pause(act).await;
    end(context, act, mix(7, all.into_iter().map(number)))
}

#[task(retry_delay = "2ms")]
async fn list(n: u32, seed: u64, act: Act, #[context] context: &Context) -> Result<Vec<u64>> {
    begin(context);
    pause(act).await;
    end(context, act, mix(8, [seed]))
        .map(|seed| (0..u64::from(n)).map(|at| mix(9, [seed, at])).collect())
}

/// What a step adds to a flow: named by the tasks that it makes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
enum StepKind {
    One,
    Blocking,
    Two,
    JoinThree,
    Maybe,
    MaybeAllDone,
    Outcome,
    After,
    AfterOneDone,
    List,
    Map,
    /// A mapping of which each element is several tasks.
    MapChain,
    /// A mapping of the elements of a mapping.
    MapAgain,
    JoinMapped,
    OutcomesOfMapped,
    /// A list that is expanded without a task.
    BareElements,
    MapInMap,
    /// A mapping of a list that is known in advance.
    MapKnown,
    FlowInFlow,
    Projection,
}

impl StepKind {
    const ALL: [Self; 20] = [
        Self::One,
        Self::Blocking,
        Self::Two,
        Self::JoinThree,
        Self::Maybe,
        Self::MaybeAllDone,
        Self::Outcome,
        Self::After,
        Self::AfterOneDone,
        Self::List,
        Self::Map,
        Self::MapChain,
        Self::MapAgain,
        Self::JoinMapped,
        Self::OutcomesOfMapped,
        Self::BareElements,
        Self::MapInMap,
        Self::MapKnown,
        Self::FlowInFlow,
        Self::Projection,
    ];
}

/// What the body of an `async` flow does in a step.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
enum BodyStep {
    /// Makes nodes, as a plain flow does.
    Plan,
    AwaitOne,
    JoinBranches,
    SelectFirst,
    AwaitMapping,
    /// Awaits one node twice, and then another.
    AwaitTwice,
    JoinFlows,
}

impl BodyStep {
    const AWAITING: [Self; 6] = [
        Self::AwaitOne,
        Self::JoinBranches,
        Self::SelectFirst,
        Self::AwaitMapping,
        Self::AwaitTwice,
        Self::JoinFlows,
    ];
}

/// Which flow [`StepKind::FlowInFlow`] calls, and what takes its result.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
enum Inner {
    Nodes,
    Body,
    MappedAllDone,
    OutcomeOfBody,
}

impl Inner {
    const ALL: [Self; 4] = [
        Self::Nodes,
        Self::Body,
        Self::MappedAllDone,
        Self::OutcomeOfBody,
    ];
}

/// One step of a flow, from what is there on `a` and `b`.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Step {
    kind: StepKind,
    body: BodyStep,
    a: u16,
    b: u16,
    n: u32,
    act: Act,
    allows_failure: bool,
    /// Whether its mapping has a limit of concurrency.
    is_limited: bool,
    /// Whether a mapping in a mapping is collected as outcomes.
    takes_outcomes: bool,
    inner: Inner,
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

fn with(node: Node<u64>, act: Act) -> Node<u64> {
    match act {
        Act::FailThirds => node.retries(1),
        Act::FailOnce => node.retries(5),
        _ => node,
    }
}

#[flow(name = "interrupted_inner")]
fn inner(n: u64, act: Act) -> Node<u64> {
    let first = with(one(n, act), act);
    two(&first, one(&first, Act::Sleep), Act::Nothing)
}

#[flow(name = "interrupted_inner_body")]
async fn inner_body(n: u64, act: Act) -> Result<u64> {
    let first = with(one(n, act), act).await?;
    let second = one(first, Act::Yield).await?;
    Ok(two(first, second, Act::Nothing).await?)
}

#[flow(name = "interrupted_inner_mapped")]
fn inner_mapped(n: u64, act: Act) -> Node<u64> {
    join(
        list((n % 4) as u32, n, Act::Nothing).expand(move |x| with(one(x, act), act)),
        Act::Nothing,
    )
}

impl World {
    fn new(named: bool) -> Self {
        let nodes = vec![one(17_u64, Act::Nothing), blocking(18_u64, Act::Sleep)];
        let lists = vec![list(3_u32, 5_u64, Act::Yield)];
        let mapped = vec![lists[0].expand(|x| one(x, Act::Yield))];
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
        self.nodes.push(if step.allows_failure {
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
            is_limited,
            ..
        } = *step;
        let (first, second) = (self.node(a).clone(), self.node(b).clone());
        let source = self.lists[a as usize % self.lists.len()].clone();
        let mapped = self.mapped[b as usize % self.mapped.len()].clone();
        let name = self.named.then(|| format!("s{at}"));
        let named = move |node: Node<u64>, part: &str| match &name {
            Some(name) => node.named(format!("{name}{part}")),
            None => node,
        };
        match kind {
            StepKind::One => self.add(at, one(first, act), step),
            StepKind::Blocking => self.add(at, blocking(first, act), step),
            StepKind::Two => self.add(at, two(first, second, act), step),
            StepKind::JoinThree => {
                let third = self.node(a ^ b).clone();
                self.add(at, join(gather([first, second, third]), act), step);
            }
            StepKind::Maybe => self.add(at, maybe(first, second, act), step),
            StepKind::MaybeAllDone => self.add(
                at,
                maybe(first, second, act).trigger(Trigger::AllDone),
                step,
            ),
            StepKind::Outcome => self.add(at, outcome(first, act), step),
            StepKind::After => {
                self.add(at, one(u64::from(n), act).after(first).after(second), step)
            }
            StepKind::AfterOneDone => self.add(
                at,
                one(u64::from(n), act)
                    .after(first)
                    .after(second)
                    .trigger(Trigger::OneDone),
                step,
            ),
            StepKind::List => {
                let source = list(n % 6, first, act);
                self.lists.push(match act {
                    Act::FailThirds | Act::FailOnce => source.retries(5),
                    _ => source,
                });
            }
            StepKind::Map => {
                let made = source.expand(move |x| named(with(one(x, act), act), "a"));
                self.mapped.push(if is_limited {
                    made.concurrency(1 + n % 3)
                } else {
                    made
                });
            }
            StepKind::MapChain => {
                let made = source.expand(move |x| {
                    let deeper = named(with(two(&x, &first, act), act), "a");
                    let third = named(blocking(x, Act::Nothing), "b");
                    named(two(third, deeper, Act::Yield), "c")
                });
                self.mapped.push(if is_limited {
                    made.concurrency(1 + n % 3)
                } else {
                    made
                });
            }
            StepKind::MapAgain => {
                let made = mapped.expand(move |x| named(with(one(x, act), act), "a"));
                self.mapped.push(made);
            }
            StepKind::JoinMapped => self.add(at, join(&mapped, act), step),
            StepKind::OutcomesOfMapped => self.add(at, outcomes(&mapped, act), step),
            StepKind::BareElements => {
                let bare = source.expand(|x| x.map(|x| x + 1));
                self.add(at, join(bare, act), step);
            }
            StepKind::MapInMap => {
                let takes_outcomes = step.takes_outcomes;
                let made = source.expand(move |x| {
                    let deeper = list(n % 4, &x, Act::Nothing).expand({
                        let (named, x) = (named.clone(), x);
                        move |y| named(with(two(y, &x, act), act), "a")
                    });
                    if takes_outcomes {
                        named(outcomes(deeper, Act::Nothing), "b")
                    } else {
                        named(join(deeper, Act::Nothing), "b")
                    }
                });
                self.mapped.push(if is_limited {
                    made.concurrency(1 + n % 3)
                } else {
                    made
                });
            }
            StepKind::MapKnown => {
                let made = expand((0..u64::from(n % 5)).collect::<Vec<_>>(), move |x| {
                    named(with(maybe(x, &first, act), act), "a")
                });
                self.mapped.push(made);
            }
            StepKind::FlowInFlow => {
                let n = u64::from(n);
                let node = match step.inner {
                    Inner::Nodes => one(inner(n, act), Act::Nothing),
                    Inner::Body => one(inner_body(n, act), Act::Nothing),
                    Inner::MappedAllDone => {
                        maybe(inner_mapped(n, act), inner(n + 1, act), Act::Nothing)
                            .trigger(Trigger::AllDone)
                    }
                    Inner::OutcomeOfBody => outcome(inner_body(n, act), Act::Nothing),
                };
                let step = Step {
                    act: Act::Nothing,
                    ..*step
                };
                self.add(at, node, &step);
            }
            StepKind::Projection => self.add(at, one(first.map(|x| x ^ 1), act), step),
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
    one(tokio_sleeps(), Act::Nothing);
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
        let (first, second) = (world.node(step.a).clone(), world.node(step.b).clone());
        match step.body {
            BodyStep::Plan => world.step(at, step),
            BodyStep::AwaitOne => {
                let value = first.await.unwrap_or(7);
                sum = mix(sum, [value]);
                world.add(at, one(value, step.act), step);
            }
            BodyStep::JoinBranches => {
                let branch = |node: Node<u64>, part: &'static str| async move {
                    let value = node.await.unwrap_or(5);
                    let next = with(one(value, step.act), step.act)
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
            BodyStep::SelectFirst => {
                let (a, b) = (
                    one(1_u64, Act::Sleep).named(format!("p{at}")),
                    one(2_u64, Act::Yield).named(format!("q{at}")),
                );
                tokio::select! { _ = a => {}, _ = b => {} }
                world.add(at, one(u64::from(step.n), step.act), step);
            }
            BodyStep::AwaitMapping => {
                let mapped = world.mapped[step.a as usize % world.mapped.len()].clone();
                let all: Vec<u64> = mapped.await.unwrap_or_default();
                sum = mix(sum, all.iter().copied());
                let act = step.act;
                world.mapped.push(expand(all, move |x| {
                    with(one(x, act), act).named(format!("m{at}"))
                }));
            }
            BodyStep::AwaitTwice => {
                let (a, b) = (first.clone().await.unwrap_or(1), first.await.unwrap_or(2));
                sum = mix(sum, [a, b, second.await.unwrap_or(3)]);
            }
            BodyStep::JoinFlows => {
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

#[derive(Clone, Copy, Debug, PartialEq)]
enum How {
    /// The tokio runtime is dropped.
    Crash,
    /// The runtime stops.
    Stop,
    /// The run is cancelled, and soon afterwards the tokio runtime is dropped.
    Cancel,
}

/// How and when a run is interrupted.
#[derive(Clone, Copy, Debug)]
struct Interruption {
    how: How,
    /// How many bodies have to start before.
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
            let acts: &[Act] =
                [&Act::CALM[..], &Act::FAILING[..], &Act::SKIPPING[..]][flavour as usize];
            let steps = steps.into_iter().map(|(kind, a, b, n, act, flags)| Step {
                kind: StepKind::ALL[kind as usize],
                body: if flags & 8 == 0 {
                    BodyStep::Plan
                } else {
                    BodyStep::AWAITING[kind as usize % BodyStep::AWAITING.len()]
                },
                a,
                b,
                n,
                act: acts[act as usize % acts.len()],
                allows_failure: flags & 1 != 0,
                is_limited: flags & 2 != 0,
                takes_outcomes: flags & 4 != 0,
                inner: Inner::ALL[(flags >> 4 & 3) as usize],
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
                    0..8 => How::Crash,
                    8..11 => How::Stop,
                    _ => How::Cancel,
                };
                crashes += u32::from(how != How::Stop);
                // what runs at the third crash in a row fails
                if crashes > 2 {
                    how = How::Stop;
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

/// Starts the run of a case, and cancels it if that is how it is interrupted; waits for its end.
async fn first_life(case: &Case, runtime: &Runtime, interruption: Option<&Interruption>) {
    let steps = case.steps.clone();
    let mut started = STARTED.subscribe();
    macro_rules! run {
        ($flow:expr) => {{
            let handle = $flow.on(runtime).start().await.unwrap();
            if is_cancel(interruption) {
                let waited = interrupt(interruption, &mut started);
                let _ = tokio::time::timeout(Duration::from_millis(100), waited).await;
                handle.cancel();
            }
            drop(handle.await);
        }};
    }
    match case.which {
        Which::Fixed => run!(fixed(steps)),
        Which::Timed => run!(timed(steps)),
        Which::Decided => run!(decided(steps, false)),
        Which::Failing => run!(decided(steps, true)),
    }
}

fn is_cancel(interruption: Option<&Interruption>) -> bool {
    interruption.is_some_and(|interruption| interruption.how == How::Cancel)
}

/// What is committed of a run before a life of it.
#[derive(Default)]
struct Committed {
    /// The states of the tasks that have ended, and how often they started.
    ended: BTreeMap<String, (TaskState, usize)>,
    attempts: BTreeMap<String, u32>,
}

impl Committed {
    async fn read(runtime: &Runtime, id: RunId) -> Self {
        let record = runtime.find_run(id).await.unwrap().unwrap();
        let starts = starts_of(id);
        let mut committed = Self::default();
        for task in record.tasks() {
            let (key, count) = (task.key(), starts.get(&task.key()).map_or(0, Vec::len));
            committed.attempts.insert(key.clone(), task.attempts());
            if task.state().is_final() {
                committed.ended.insert(key, (task.state(), count));
            }
        }
        committed
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

/// Waits until no process owns the runs of a file.
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
    ensure!(record.is_ok(), "a run without an interruption hangs");
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
        let done = tokio.block_on(async {
            let runtime = open(&path).await;
            let committed = match id {
                Some(id) => {
                    SEEN.lock().entry(id).or_default().life = life;
                    Committed::read(&runtime, id).await
                }
                None => Committed::default(),
            };
            let on = runtime.clone();
            let work = async {
                if life == 0 {
                    first_life(case, &on, interruption).await;
                } else {
                    drop(on.resume().await);
                }
            };
            let is_hung = tokio::select! {
                limited = tokio::time::timeout(LIMIT, work) => limited.is_err(),
                is_hung = interrupt_life(life, interruption, &runtime) => is_hung,
            };
            cancelled |= life == 0 && is_cancel(interruption);
            if is_hung {
                let record = match id {
                    Some(id) => runtime.find_run(id).await.unwrap(),
                    None => None,
                };
                let tasks = record.as_ref().map(RunRecord::tasks);
                let text = format!("life {life} hangs: {record:?} {tasks:#?}");
                return Err(TestCaseError::fail(text));
            }
            if life == 0 {
                let runs = runtime.runs(flow_name(case.which)).await.unwrap();
                id = runs.first().map(RunRecord::id);
            }
            Ok(committed)
        });
        tokio.shutdown_background();
        wait_for_owners(&path)?;
        let committed = done?;
        // the run was not accepted yet
        let Some(id) = id else { return Ok(()) };
        let starts = starts_of(id);
        for (key, (state, count)) in committed.ended {
            let now = starts.get(&key).map_or(0, Vec::len);
            ensure!(
                now == count,
                "{key}, which was {state}, started again: {:?}",
                starts[&key]
            );
        }
        for (key, starts) in &starts {
            for pair in starts.windows(2) {
                ensure!(pair[1].1 > pair[0].1, "the attempts of {key}: {starts:?}");
            }
            if let (Some(recorded), Some((_, first))) = (
                committed.attempts.get(key),
                starts.iter().find(|(of, _)| *of == life),
            ) {
                // a first attempt may have died with the first life before its start was recorded
                let is_next = *first == recorded + 1 || (*recorded == 0 && *first == 2);
                ensure!(
                    is_next,
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

/// Interrupts a life of a run at its time. Returns whether the runtime hangs in its stop.
async fn interrupt_life(life: u32, interruption: Option<&Interruption>, runtime: &Runtime) -> bool {
    interrupt(interruption, &mut STARTED.subscribe()).await;
    match interruption {
        Some(Interruption { how: How::Stop, .. }) => {
            tokio::time::timeout(LIMIT, runtime.stop()).await.is_err()
        }
        Some(Interruption {
            how: How::Cancel,
            micros,
            ..
        }) if life == 0 => {
            tokio::time::sleep(Duration::from_micros(micros % 300)).await;
            false
        }
        _ => false,
    }
}

/// Waits until a run is to be interrupted; without an interruption, for ever.
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
fn interrupted_run_ends_as_an_undisturbed_one() {
    let _one = ONE_AT_A_TIME.lock();
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let cases_to_run = number("INTERRUPTED_CASES").unwrap_or(150) as u32;
    let seed = number("INTERRUPTED_SEED").unwrap_or(1);
    let config = Config {
        cases: cases_to_run,
        rng_seed: RngSeed::Fixed(seed),
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
        panic!("INTERRUPTED_SEED={seed}: {problem}");
    }
}
