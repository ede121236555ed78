//! Deaths at random moments.

use std::collections::HashMap;

use super::points::parts;
use super::tasks::*;
use super::*;

/// Which flow, with which parameter, and whether it is asked for by its key rather than gone on
/// with.
const FLOW: &str = "CRASH_FLOW";
const SEED: &str = "CRASH_SEED";
const BY_KEY: &str = "CRASH_BY_KEY";

pub(super) async fn act(runtime: &Runtime) {
    let seed = std::env::var(SEED).unwrap().parse().unwrap();
    match std::env::var(FLOW).unwrap().as_str() {
        "varied" => {
            let run = once(varied(seed), runtime).await;
            assert_eq!(
                run.output().map(|made| made.number),
                Some(total_of_varied(seed)),
                "{run:?}"
            );
            assert_eq!(
                (unsuccessful(run.record()), run.tasks().len()),
                (vec![], TASKS_OF_VARIED)
            );
        }
        "alike" => assert_eq!(once(alike(), runtime).await.state(), RunState::Success),
        "gathers" => assert_eq!(once(gathers(), runtime).await.output(), Some(&1040)),
        "limited" => assert_eq!(once(limited(), runtime).await.state(), RunState::Success),
        "uneven" => drop(once(uneven(seed), runtime).await),
        "decided" => drop(once(decided(), runtime).await),
        "shapes" => drop(once(shapes(seed), runtime).await),
        "steps" => check_branches(&once(branches(seed, false), runtime).await),
        "backfilled" => backfilled::act(runtime).await,
        "tickets" => check_branches(&once(branches(seed, true), runtime).await),
        unknown => panic!("no flow {unknown}"),
    }
}

/// The run of a flow: gone on with, or asked for.
async fn once<T: orchestrator::Data>(flow: Flow<T>, runtime: &Runtime) -> Run<T> {
    if std::env::var_os(BY_KEY).is_none() {
        runtime.resume().await.unwrap();
    }
    flow.key("only").on(runtime).run().await.unwrap()
}

/// Starts a run and kills its process again and again, until the run is final. Says how often it
/// did.
///
/// A process may be killed between its takeover and the first end that it commits. When that
/// happens time and again, what runs alone would fail: that is what another test is about, so here
/// a process that takes over from one that committed nothing is let live until it has.
#[expect(
    clippy::disallowed_methods,
    reason = "the processes sleep and are killed, not the tasks of this one"
)]
pub(super) fn kill_until_final(
    place: &Place,
    flow: &str,
    seed: u64,
    random: &mut Random,
) -> (u32, History) {
    let mut history = History::new(place);
    for kills in 0_u32.. {
        let _case = crate::support::case(format_args!("{flow}, seed {seed}, after {kills} kills"));
        let seed = seed.to_string();
        let mut variables = vec![(FLOW, flow), (SEED, seed.as_str())];
        variables.extend((random.below(2) == 0).then_some((BY_KEY, "1")));
        let endangered = takeovers(place) > 0;
        let started = processes(place);
        let mut process = place.start("random", &variables);
        if random.below(8) > 0 {
            // a busy machine takes longer to start it than it is let live
            place.wait_until("a process opens the store", || {
                process.is_over() || processes(place) > started
            });
        }
        if endangered {
            place.wait_until("a task comes to its end", || {
                process.is_over() || takeovers(place) == 0
            });
        }
        // the more were killed, the longer one may live: so runs end on a busy machine, too
        std::thread::sleep(Duration::from_micros(
            random.below(40_000 + 1_000 * u64::from(kills)),
        ));
        // chance must not look like a task that kills its process
        place.wait_until("a task has run alone for the third time", || {
            process.is_over() || !place.is_on_last_trial()
        });
        let status = process.kill();
        if status.success() {
            return (kills, history);
        }
        assert_eq!(status.signal(), Some(SIGKILL), "{}", place.said());
        history.died();
    }
    unreachable!("every run ends")
}

/// How many processes have opened the store.
fn processes(place: &Place) -> i64 {
    let Some(connection) = place.look() else {
        return 0;
    };
    let opened = "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'processes'";
    connection.query_row(opened, [], |row| row.get(0)).unwrap()
}

/// How many processes died in a row with a run that none of them brought further.
fn takeovers(place: &Place) -> i64 {
    let Some(connection) = place.look() else {
        return 0;
    };
    let most = "SELECT coalesce(max(takeovers), 0) FROM runs WHERE state < 2";
    connection.query_row(most, [], |row| row.get(0)).unwrap()
}

/// How many processes are to be killed.
pub(super) fn wanted() -> u32 {
    std::env::var("ORCHESTRATOR_KILLS").map_or(150, |kills| kills.parse().unwrap())
}

#[test]
fn a_run_killed_at_random_moments_completes_each_task_once() {
    let mut random = Random(7);
    let (mut kills, mut runs) = (0, 0);
    while kills < wanted() {
        let _case = crate::support::case(format_args!("seed {runs}"));
        let (killed, history) =
            kill_until_final(&Place::new("random"), "varied", runs, &mut random);
        history.check_all();
        kills += killed;
        runs += 1;
    }
    println!("{kills} kills in {runs} runs");
}

/// A chain, a fan-out, tasks that fail at first, mappings in mappings; some bodies wait and some do
/// not.
#[flow(name = "crash_varied")]
fn varied(seed: u64) -> Node<Made> {
    let mut random = Random(seed);
    let mut milliseconds = || random.below(8).saturating_sub(4);
    let first = step(made(seed), 0);
    let mut chain = step(&first, 1);
    for _ in 1..20 {
        chain = step(chain, milliseconds());
    }
    let wide: Vec<Node<Made>> = (0..40).map(|_| step(&first, milliseconds())).collect();
    let again: Vec<Node<Made>> = wide.iter().step_by(4).map(retried).collect();
    let nested = list(&first, 5).expand(move |outer| {
        let pause = seed % 3;
        sum(list(outer, 6).expand(move |inner| step(retried(inner), pause)))
    });
    sum([chain, sum(gather(wide)), sum(gather(again)), sum(nested)])
}

const TASKS_OF_VARIED: usize = 1 + 20 + 40 + 10 + (1 + 5 * (1 + 6 * 2 + 1)) + 3 + 1;

fn total_of_varied(seed: u64) -> u64 {
    let nested = (0..5).flat_map(|outer| (0..6).map(move |inner| seed + 1 + outer + inner + 2));
    (seed + 21) + 40 * (seed + 2) + 10 * (seed + 3) + nested.sum::<u64>()
}

#[test]
fn mappings_that_are_wired_alike_keep_their_results() {
    let place = Place::new("alike");
    let mut history = History::new(&place);
    let variables = [(FLOW, "alike"), (SEED, "0")];
    // the first process dies before the list is there; the second in the second mapping, which is
    // wired as the first is
    for hit in [2, 5] {
        let _case = crate::support::case(format_args!("hit {hit}"));
        place.dies("random", &variables, "body-over", hit);
        history.died();
    }
    place.acts("random", &variables);
    history.check_all();
}

#[flow(name = "crash_alike")]
async fn alike() -> Result<Vec<Vec<Made>>> {
    let numbers = list(step(made(1), 5), 2);
    let mut all = Vec::new();
    for _ in 0..3 {
        all.push(numbers.expand(|_| ticket()).await?);
    }
    Ok(all)
}

#[test]
fn branches_that_await_mappings_resume_in_the_recorded_order() {
    // the fault that this found showed up in one run of a hundred
    for round in 0..40 {
        let _case = crate::support::case(format_args!("round {round}"));
        let place = Place::new("gathers");
        let mut history = History::new(&place);
        let variables = [(FLOW, "gathers"), (SEED, "0")];
        place.dies("random", &variables, "body-over", 70);
        history.died();
        place.acts("random", &variables);
        history.check();
    }
}

/// Awaits, at once, what the runtime collects by itself.
#[flow(name = "crash_gathers")]
async fn gathers() -> Result<u64> {
    let branch = |branch: u64| async move {
        let mut number = branch;
        for _ in 0..10 {
            number = expand(vec![number, 1], count_on).await?[0].number;
        }
        Ok::<_, TaskError>(number)
    };
    let (first, second, third, fourth) =
        tokio::join!(branch(100), branch(200), branch(300), branch(400));
    Ok(first? + second? + third? + fourth?)
}

#[task]
async fn count_on(number: u64, #[context] context: &Context) -> Made {
    let work = Work::start(context);
    pause(number % 2).await;
    work.done(number + 1)
}

#[test]
fn limited_mapping_resumes_after_a_crash_at_any_element() {
    for hit in 1..=16 {
        let _case = crate::support::case(format_args!("hit {hit}"));
        let place = Place::new("limited");
        let mut history = History::new(&place);
        let variables = [(FLOW, "limited"), (SEED, "0")];
        place.dies("random", &variables, "body-over", hit);
        history.died();
        place.acts("random", &variables);
        history.check_all();
    }
}

#[flow(name = "crash_limited")]
fn limited() -> Node<Made> {
    let staged = list(made(1), 8)
        .expand(|each| step(step(each, 1), 0))
        .concurrency(3);
    sum(staged.expand(|each| step(each, 1)).concurrency(2))
}

#[test]
fn killed_run_with_failures_and_skips_ends_as_an_undisturbed_one() {
    let mut random = Random(13);
    for flow in ["uneven", "shapes"] {
        let (mut kills, mut runs) = (0, 0);
        while kills < wanted() / 5 {
            let _case = crate::support::case(format_args!("{flow}, seed {runs}"));
            let (undisturbed, killed) = (Place::new(flow), Place::new(flow));
            undisturbed.acts("random", &[(FLOW, flow), (SEED, &runs.to_string())]);
            let (times, history) = kill_until_final(&killed, flow, runs, &mut random);
            let (found, expected) = (ends(&killed, flow), ends(&undisturbed, flow));
            let differ: Vec<_> = found.symmetric_difference(&expected).collect();
            assert!(
                differ.is_empty(),
                "{flow} {runs}: {differ:#?} {}",
                killed.said()
            );
            history.check();
            kills += times;
            runs += 1;
        }
        println!("{flow}: {kills} kills in {runs} runs");
    }
}

/// What became of a run and of each of its tasks. Of several upstreams that failed, chance says
/// which one is named.
fn ends(place: &Place, flow: &str) -> BTreeSet<String> {
    let run = place.record(&format!("crash_{flow}"));
    let own = |task: &orchestrator::TaskRun<'_>| {
        task.error()
            .filter(|_| task.state() == TaskState::Failed)
            .cloned()
    };
    let tasks = run
        .tasks()
        .iter()
        .map(|task| format!("{}: {} {:?}", task.key(), task.state(), own(&task)));
    tasks
        .chain([format!("the run: {} {:?}", run.state(), run.error())])
        .collect()
}

/// Fails at all of its attempts.
#[task(retries = 1, retry_delay = "3ms")]
async fn broken(before: &Made, #[context] context: &Context) -> Result<Made> {
    let _work = Work::start(context);
    pause(before.number % 3).await;
    Err(format!("{} is broken", before.number).into())
}

#[task]
async fn even(before: &Made, #[context] context: &Context) -> Result<Made> {
    let work = Work::start(context);
    pause(before.number % 4).await;
    match before.number % 4 {
        0 | 2 => Ok(work.done(before.number)),
        1 => Err(skip("odd").into()),
        _ => Err(fatal("too odd").into()),
    }
}

#[task]
async fn tell(outcome: Outcome<Made>, #[context] context: &Context) -> Made {
    Work::start(context).done(u64::from(outcome.is_success()))
}

#[task]
async fn count(outcomes: Vec<Outcome<Made>>, #[context] context: &Context) -> Made {
    let work = Work::start(context);
    pause(1).await;
    work.done(
        outcomes
            .iter()
            .filter(|outcome| outcome.is_success())
            .count() as u64,
    )
}

#[task]
async fn never(_before: &Made) -> Made {
    std::future::pending().await
}

#[flow(name = "crash_gives_up")]
async fn gives_up(number: u64) -> Result<Made> {
    let _left = step(never(made(number)), 0);
    broken(made(number)).await?;
    Ok(step(made(number), 0).await?)
}

#[flow(name = "crash_skips")]
fn skips(number: u64) -> Node<Made> {
    step(even(step(made(number), 0)), 0)
}

/// Failures that are handled, and in every third run one that is not.
#[flow(name = "crash_uneven")]
async fn uneven(seed: u64) -> Result<u64> {
    let first = step(made(seed), 1);
    let told = tell(broken(&first));
    let after_all = step(&first, 0).after([&told]).trigger("all_done".parse()?);
    let mapped = list(&first, 8).expand(|each| even(step(each, 1)));
    let counted = count(mapped);
    let limited = list(&first, 6)
        .expand(|each| blocks(step(each, 1)))
        .concurrency(2);
    let inner = tell(gives_up(seed));
    let skipped = step(skips(seed), 0).allow_failure();
    let cleaned = step(&first, 0)
        .after([&skipped])
        .trigger("all_done".parse()?);
    let awaited = match broken(&after_all).await {
        Ok(_) => 0,
        Err(error) => step(made(error.to_string().len() as u64), 0).await?.number,
    };
    if seed.is_multiple_of(3) {
        let _unhandled = broken(&counted);
    }
    // a second stage, when the first one is done
    let stage = limited.clone().await?.len() as u64;
    let staged = sum(limited.expand(move |each| step(each, stage % 3)));
    Ok(awaited + sum([told, counted, inner, cleaned, staged]).await?.number)
}

#[task]
async fn skips_odd(before: &Made, #[context] context: &Context) -> Result<Made> {
    let work = Work::start(context);
    pause(before.number % 4).await;
    if before.number % 2 == 1 {
        Err(skip("odd").into())
    } else {
        Ok(work.done(before.number))
    }
}

#[task]
async fn fails_odd(before: &Made, #[context] context: &Context) -> Result<Made> {
    let work = Work::start(context);
    pause(before.number % 4).await;
    if before.number % 2 == 1 {
        Err(fatal("odd").into())
    } else {
        Ok(work.done(before.number))
    }
}

/// One upstream is skipped, the process dies, and then another fails: that decides, as if it had
/// come first.
#[test]
fn failure_after_a_crash_outranks_a_skip_before_it() {
    let place = Place::new("decided");
    let variables = [(FLOW, "decided"), (SEED, "0")];
    place.dies("random", &variables, "body-over", 4);
    assert_eq!(
        place
            .rows()
            .iter()
            .filter(|row| row.state == TaskState::Skipped)
            .count(),
        1,
        "{}",
        place.said()
    );
    place.acts("random", &variables);
    let run = place.record("crash_decided");
    assert_eq!(run.task("sum").unwrap().state(), TaskState::UpstreamFailed);
    assert_eq!(
        (run.state(), run.error().map(ToString::to_string)),
        (RunState::Success, None)
    );
}

#[flow(name = "crash_decided")]
fn decided() {
    let first = skips_odd(made(1));
    let second = fails_odd(step(made(0), 20)).allow_failure();
    sum([&second, &first]).allow_failure();
    step(made(0), 60);
}

/// What is added to a graph: named by the tasks that it makes.
#[derive(Clone, Copy, Debug)]
enum Part {
    Step,
    Retried,
    /// Fails or is skipped if its number is odd.
    Odd,
    Tell,
    /// A task with a trigger rule.
    Ruled,
    SumOfMapped,
    CountOfMapped,
    MapInMap,
    FlowInFlow,
    SumOfThree,
}

impl Part {
    const ALL: [Self; 10] = [
        Self::Step,
        Self::Retried,
        Self::Odd,
        Self::Tell,
        Self::Ruled,
        Self::SumOfMapped,
        Self::CountOfMapped,
        Self::MapInMap,
        Self::FlowInFlow,
        Self::SumOfThree,
    ];
}

/// Nodes of all kinds, under all rules, each after some that were made before.
#[flow(name = "crash_shapes")]
fn shapes(seed: u64) -> Node<Made> {
    let mut random = Random(seed);
    let mut nodes = vec![step(made(seed % 4), 1)];
    for _ in 0..6 + random.below(12) {
        let (from, other) = (pick(&mut random, &nodes), pick(&mut random, &nodes));
        let (pause, part) = (
            random.below(3),
            Part::ALL[random.below(Part::ALL.len() as u64) as usize],
        );
        let (length, limit) = (random.below(6), u32::try_from(random.below(3)).unwrap() + 1);
        let (rule, fails) = (
            Trigger::ALL[random.below(Trigger::ALL.len() as u64) as usize],
            random.below(2) == 0,
        );
        let odd = move |node: Node<Made>| {
            if fails {
                fails_odd(node)
            } else {
                skips_odd(node)
            }
        };
        nodes.push(match part {
            Part::Step => step(from, pause),
            Part::Retried => retried(from),
            Part::Odd => odd(from).allow_failure(),
            Part::Tell => tell(from),
            Part::Ruled => step(other, pause).after(from).trigger(rule),
            Part::SumOfMapped => sum(list(from, length + 1)
                .expand(move |each| step(step(retried(each), pause), 0))
                .concurrency(limit)),
            Part::CountOfMapped => count(
                list(from, length)
                    .expand(move |each| odd(step(each, pause)))
                    .concurrency(limit),
            ),
            Part::MapInMap => sum(list(from, 3).expand(move |outer| {
                let inner = list(outer, 2)
                    .expand(move |inner| step(inner, pause))
                    .concurrency(limit);
                sum(inner.expand(retried))
            })),
            Part::FlowInFlow if seed.is_multiple_of(2) => step(skips(random.below(4) * 2), 0),
            Part::FlowInFlow => tell(gives_up(random.below(8))),
            Part::SumOfThree => sum([blocks(&from), step(parts(pause), 0), other]),
        });
    }
    count(gather(nodes))
}

fn pick(random: &mut Random, nodes: &[Node<Made>]) -> Node<Made> {
    nodes[usize::try_from(random.below(nodes.len() as u64)).unwrap()].clone()
}

#[test]
fn the_branches_of_an_async_flow_keep_their_results() {
    let mut random = Random(11);
    for flow in ["steps", "tickets"] {
        let (mut kills, mut runs) = (0, 0);
        while kills < wanted() / 4 {
            let _case = crate::support::case(format_args!("{flow}, seed {runs}"));
            kills += killed_in_branches(flow, runs, &mut random);
            runs += 1;
        }
        println!("{flow}: {kills} kills in {runs} runs");
    }
}

/// That the run is a success, with each result where it was made, is seen by the process that comes
/// to its end; whether a branch was ever told two things in one place, by what the bodies noted.
fn killed_in_branches(flow: &str, seed: u64, random: &mut Random) -> u32 {
    let place = Place::new("branches");
    let (kills, history) = kill_until_final(&place, flow, seed, random);
    history.check_all();
    let mut told = HashMap::new();
    for line in place
        .effects()
        .iter()
        .filter_map(|line| line.strip_prefix("told "))
    {
        let (at, result) = line.split_once(": ").unwrap();
        let before = told.insert(at.to_owned(), result.to_owned());
        assert!(
            before.as_deref().is_none_or(|before| before == result),
            "{at}: {before:?}, then {result}"
        );
    }
    kills
}

/// A task that makes another number each time, and is not told for which branch.
#[task]
async fn ticket(#[context] context: &Context) -> Made {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let work = Work::start(context);
    let number = NEXT.fetch_add(1, Ordering::SeqCst);
    pause(u64::from(number) % 4).await;
    work.done((u64::from(std::process::id()) << 32) + u64::from(number))
}

#[flow(name = "crash_within_branch")]
async fn within_branch(number: u64, is_ticket: bool) -> Result<Made> {
    let first = one_of(number, is_ticket).await?;
    Ok(if is_ticket { ticket().await? } else { first })
}

/// A result for a branch: one that has its number, or one that could be any branch's.
fn one_of(number: u64, is_ticket: bool) -> Node<Made> {
    if is_ticket {
        ticket()
    } else {
        step(made(number - 1), number % 4)
    }
}

/// What a branch awaits next.
#[derive(Clone, Copy, Debug)]
enum Awaited {
    Flow,
    Mapping,
    Task,
}

impl Awaited {
    const DRAWN: [Self; 4] = [Self::Flow, Self::Mapping, Self::Task, Self::Task];
}

/// Three branches of different lengths, which await tasks, mappings and flows.
#[flow(name = "crash_branches")]
async fn branches(seed: u64, are_tickets: bool) -> Result<Vec<Vec<Made>>> {
    let branch = |branch: u64| async move {
        let mut random = Random(seed * 10 + branch);
        let mut all = Vec::new();
        for at in 0..3 + random.below(6) {
            let number = branch * 100 + at + 1;
            // in half of the runs with tickets, the branches do not differ but in their lengths
            let drawn = Awaited::DRAWN[random.below(4) as usize];
            let awaited = if are_tickets && seed.is_multiple_of(2) {
                Awaited::Task
            } else {
                drawn
            };
            let made = match awaited {
                Awaited::Flow => within_branch(number, are_tickets).await?,
                Awaited::Mapping => expand(vec![0, 1], move |_| one_of(number, are_tickets))
                    .await?
                    .remove(1),
                Awaited::Task => one_of(number, are_tickets).await?,
            };
            note(&format!(
                "told {branch} {at}: {} {}",
                made.number, made.whose
            ));
            all.push(made);
        }
        Ok::<_, TaskError>(all)
    };
    let (first, second, third) = tokio::join!(branch(0), branch(1), branch(2));
    Ok(vec![first?, second?, third?])
}

/// Each branch has what its own tasks made.
fn check_branches(run: &Run<Vec<Vec<Made>>>) {
    let branches = run.output().unwrap_or_else(|| panic!("{run:?}"));
    let effects = Place::here().effects();
    let is_ticket = run.parameters()["are_tickets"] == true;
    for (branch, results) in (0..).zip(branches) {
        for (at, made) in (0..).zip(results) {
            let told = format!("told {branch} {at}: {} {}", made.number, made.whose);
            let done = format!("done {} {}", made.whose, made.number);
            assert!(
                [told, done].iter().all(|line| effects.contains(line)),
                "{branch} {at}: {made:?}"
            );
            assert!(
                is_ticket || made.number == branch * 100 + at + 1,
                "{branch} {at}: {made:?}"
            );
        }
    }
}
