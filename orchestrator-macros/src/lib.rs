//! The macros of [`orchestrator`](https://docs.rs/orchestrator), which re-exports them: use that crate.
//!
//! Each attribute is read in the order of its files: `parse` (tokens to options), `model` (what was written, as plain data),
//! `check` (all rules) and `expand` (tokens, which cannot fail). What is wrong is reported where it stands, all of it
//! together, beside an item that stands in for the one that was asked for (`fallback`).
//!
//! The code that they write is short and calls `orchestrator::__private`, where ordinary code does the work.

mod code;
#[allow(
    dead_code,
    unreachable_pub,
    reason = "the library's own file, by a symlink"
)]
mod cron;
mod data;
mod duration;
mod fallback;
mod flow;
mod names;
mod options;
mod place;
mod schedule;
mod signature;
mod similar;
mod task;
mod zone;

use proc_macro::TokenStream;

/// Makes a function a task.
///
/// An `async fn` runs on the runtime's threads, a plain `fn` is blocking work and runs beside them. Called, the function
/// does not run: it gives a `Node` of its output, for which a flow wires others. Awaited outside of a flow, the node
/// runs at once.
///
/// ```
/// use orchestrator::prelude::*;
///
/// #[task(retries = 3, retry_delay = "60s", backoff = 2)]
/// async fn extract(day: u32) -> Result<Vec<u64>> {
///     Ok(vec![u64::from(day); 3])
/// }
///
/// /// Borrows its input, and two things that are none.
/// #[task(timeout = "5m", tags = ["warehouse"])]
/// async fn load(rows: &[u64], #[resource] warehouse: &Warehouse, #[context] context: &Context) -> Result<u64> {
///     warehouse.insert(rows, context.attempt())
/// }
/// # struct Warehouse;
/// # impl Warehouse {
/// #     fn insert(&self, rows: &[u64], _: u32) -> Result<u64> { Ok(rows.len() as u64) }
/// # }
///
/// #[flow]
/// fn pipeline(day: u32) -> Node<u64> {
///     load(extract(day))
/// }
/// # let _ = pipeline(1);
/// ```
///
/// # Parameters
///
/// At most 12 inputs, each a name and a type that is data (`Clone + Serialize + DeserializeOwned + Send + Sync +
/// 'static`). `&T`, `&[T]` and `&str` borrow what is kept as a `T`, a `Vec<T>` and a `String`; an owned value is moved
/// where the task is its last user, and cloned otherwise. `Option<T>` takes the value where there is one, `Outcome<T>`
/// whatever became of the node before.
///
/// `#[resource] name: &T` takes the resource of that type from the runtime, `#[context] name: &Context` what is known of
/// the run and the attempt. Neither is an input: no one passes them. `#[no_cache]` marks an input that is no part of the
/// [key of a cached result](#caching).
///
/// # Output
///
/// Data, or a `Result` of data with any error, or nothing. Whether the task can fail is read off the word `Result`: an
/// alias of another name is refused.
///
/// # Options
///
/// What the call sets (`extract(1).retries(5)`) wins over these, and these over the `defaults(…)` of a flow.
///
/// | option | meaning | default |
/// | --- | --- | --- |
/// | `name = "…"` | what the task is called in keys and on pages; no `/`, `#`, `[`, `]` or white space | the function's name |
/// | `description = "…"` | what it does | the doc comment |
/// | `tags = ["…", …]` | words to find it by | none |
/// | `retries = n` | attempts after the first, at most 100 | 0 |
/// | `retry_delay = "60s"` | wait before the second attempt | none |
/// | `retry_delay = ["1s", "10s"]` | wait before each further attempt; the last repeats. Not with `backoff` or `max_retry_delay` | |
/// | `backoff = 2` | factor by which the delay grows with each attempt, 1 or more; above 1 delays vary at random between half and whole | 1 |
/// | `max_retry_delay = "10m"` | what the delay grows to at most; at least `retry_delay` | 24 hours |
/// | `retry_if = path` | a `fn(&TaskError) -> bool`: which errors are worth another attempt | all |
/// | `timeout = "5m"` | how long one attempt may take; the next follows if there are retries left | no limit |
/// | `trigger = rule` | when the task runs, given what became of those before it: one of `all_success`, `all_failed`, `all_done`, `all_done_min_one_success`, `one_success`, `one_failed`, `one_done`, `none_failed`, `none_failed_min_one_success`, `none_skipped`, `all_skipped`, `always` | `all_success` |
/// | `pool = "…"` | the pool whose slots the task's bodies share with others | none |
/// | `pool_slots = n` | how many of the pool's slots one body takes; with `pool` only | 1 |
/// | `cache` | results are kept, and used again for ever; see [Caching](#caching). Not among the `defaults(…)` of a flow, as the two below | not kept |
/// | `cache = "1h"` | results are kept, and used again until they are that old | |
/// | `cache_key = path` | a function of the inputs, borrowed, whose result stands for them in the key; with `cache` only | the inputs |
/// | `version = "…"` | stands for the code in the key; with `cache` only | the code |
///
/// Durations are whole numbers with a unit, `ms`, `s`, `m`, `h` or `d`, each at most once and the larger first, such as
/// `"90s"` or `"1h30m"`; at most `"36500d"`.
///
/// # Caching
///
/// Functions and constants that the body calls are *not* part of the key: where only they change, the old results are
/// used on. `version = "…"` says that the task means something else now.
///
/// The result of a cached task is kept under a key: the task, its code, and its inputs. A call with an equal key, in any
/// run, gets that result, and the body does not run. Failures are not kept.
///
/// - The code is that of the function: parameters, return type and body, without layout, comments and attributes.
///   `version` takes its place: with it, the results stay in use whatever happens to the code, until it has another value.
/// - Options are never part of the key, nor are resources and the context. Neither is an input that is marked
///   `#[no_cache]`: a switch for logging, say, on which the result does not depend.
/// - Maps are put in order for the key, and so are the elements of a parameter that is written as a `HashSet<…>`. A
///   `HashSet` *inside* of a type is taken as it comes, in any order: write a `BTreeSet` there, or use `cache_key`.
/// - `cache_key` names a function that takes every input, without resources and the context, by reference (`&T`, or `&str`
///   and `&[T]`) and returns anything that is `Serialize`. Equal results are equal keys.
///
/// ```
/// use orchestrator::prelude::*;
///
/// #[task(cache = "1h")]
/// async fn area(width: u32, height: u32, #[no_cache] verbose: bool) -> u32 {
///     if verbose {
///         println!("{width} x {height}");
///     }
///     width * height
/// }
///
/// /// Orders are only ever added: those of a customer are known by their number.
/// #[task(cache, cache_key = number_of_orders, version = "2")]
/// async fn score(customer: &str, orders: &[u64]) -> Result<u64> {
///     model(customer, orders)
/// }
///
/// fn number_of_orders(customer: &str, orders: &[u64]) -> (String, usize) {
///     (customer.to_owned(), orders.len())
/// }
/// # fn model(_: &str, orders: &[u64]) -> Result<u64> { Ok(orders.iter().sum()) }
/// # let _ = (area(1, 2, true), score("ada", [3, 4]));
/// ```
///
/// # Limits
///
/// A task stands wherever a function can: in a module, a function, an `impl` block. It takes no `self` and names no
/// `Self`, has no generics and no `where`, and is not `const`, `unsafe` or `extern`. Its body sees its own name as the
/// plain function that it is: a recursive one calls itself, not a node. Attributes other than docs, `cfg` and lints (an
/// `#[instrument]`, say) hold for that function.
#[proc_macro_attribute]
pub fn task(options: TokenStream, item: TokenStream) -> TokenStream {
    task::task(options.into(), item.into()).into()
}

/// Makes a function a flow.
///
/// The function wires tasks: it calls them, passes the nodes that they give to others, and returns the node whose value
/// is the flow's. Called, it does not run: it gives a `Flow`, to be run, served, awaited or drawn.
///
/// A plain `fn` is a static graph, known and checked before anything runs. An `async fn` may await nodes, and decide by
/// what it gets.
///
/// ```
/// use orchestrator::prelude::*;
///
/// #[task]
/// async fn count(table: &str) -> u64 {
///     table.len() as u64
/// }
///
/// #[task]
/// async fn add(a: u64, b: u64) -> u64 {
///     a + b
/// }
///
/// #[flow(tags = ["daily"], max_active_runs = 1, defaults(retries = 2, retry_delay = "5m"))]
/// fn both() -> Node<u64> {
///     add(count("customers"), count("orders"))
/// }
///
/// #[flow]
/// async fn at_least(limit: u64) -> Result<u64> {
///     let mut total = 0;
///     while total < limit {
///         total = add(total, both()).await?;
///     }
///     Ok(total)
/// }
/// # let _ = at_least(1);
/// ```
///
/// # Schedule
///
/// `schedule` says when runs of the flow are due, wherever it is served. Expression and zone are checked by the compiler.
///
/// ```
/// use orchestrator::prelude::*;
///
/// #[task]
/// async fn refresh(table: &str) -> u64 {
///     table.len() as u64
/// }
///
/// /// Each morning but those of the weekend; after a stop, a run for each of the days that were missed.
/// #[flow(schedule = "0 6 * * MON-FRI", timezone = "Europe/Zurich", missed = "all")]
/// fn report() -> Node<u64> {
///     refresh("orders")
/// }
///
/// /// Every minute, unless the run before is still under way.
/// #[flow(schedule = "* * * * *", max_active_runs = 1, overlap = "skip")]
/// fn sync() -> Node<u64> {
///     refresh("customers")
/// }
/// # let _ = (report(), sync());
/// ```
///
/// # Parameters
///
/// At most 12, owned data, which the call gives. `#[context] name: &Context` takes what is known of the run. To pass a
/// node, await it first, or write an ordinary function over nodes in place of a flow.
///
/// # Output
///
/// A `Node`, a `Mapped`, a tuple of them, or nothing; an `async fn` may return a `Result` of data instead. Aliases of
/// these types are refused.
///
/// # Options
///
/// | option | meaning | default |
/// | --- | --- | --- |
/// | `name = "…"` | what the flow is called, in the whole binary; no `/`, `#`, `[`, `]` or white space | the function's name |
/// | `description = "…"` | what it does | the doc comment |
/// | `tags = ["…", …]` | words to find it by | none |
/// | `schedule = "0 6 * * *"` | when its runs are due: a crontab expression as for [`cron!`](macro@cron), five fields, or six with seconds first, or `@daily` and its like | never by itself |
/// | `timezone = "Europe/Zurich"` | the zone in which `schedule` is read: an IANA name; with `schedule` only | `"UTC"` |
/// | `missed = "…"` | which of the ticks of `schedule` that came while nobody served get a run: `"latest"`, `"all"`, the oldest first, or `"none"`; with `schedule` only | `"latest"` |
/// | `max_active_runs = n` | how many of its runs may be under way at once, 1 or more; the others wait, unless `overlap` says something else | no limit |
/// | `overlap = "…"` | what becomes of a scheduled run when `max_active_runs` are under way: `"queue"`, it waits for its turn, `"skip"`, there is none, which the log says, or `"cancel_running"`, the oldest of those under way is cancelled for it; with `max_active_runs` only | `"queue"` |
/// | `timeout = "2h"` | how long a run may take; what is not done then is cancelled, and the run has failed | no limit |
/// | `defaults(…)` | options of [`task`](macro@task) for the tasks of the flow, where neither the call nor the task sets them; all but `name`, `description` and `tags` | none |
/// | `resources = [Type, …]` | resources that its tasks need, to be looked for before a run starts; the tasks of a plain `fn` are known, so this is for an `async fn` | none |
///
/// Durations are written as for [`task`](macro@task).
///
/// # Limits
///
/// As for [`task`](macro@task). A flow takes no resources: its tasks do.
#[proc_macro_attribute]
pub fn flow(options: TokenStream, item: TokenStream) -> TokenStream {
    flow::flow(options.into(), item.into()).into()
}

/// A `Schedule` by a crontab expression that the compiler checks.
///
/// The argument is a string literal: five fields (minute, hour, day-of-month, month, day-of-week), or six with seconds
/// first, or `@yearly`, `@monthly`, `@weekly`, `@daily` or `@hourly`. What is no such expression, or would never fire, is
/// an error of the compiler, in the words of `Schedule::cron`, which reads the same expressions at run time. The whole
/// grammar stands at `Cron`.
///
/// The zone is UTC, until `Schedule::timezone` sets another one.
///
/// ```
/// use orchestrator::prelude::*;
///
/// let schedule = cron!("*/15 9-17 * * MON-FRI");
/// assert_eq!(schedule.name(), "*/15 9-17 * * 1-5");
/// ```
///
/// It may stand where only constants may:
///
/// ```
/// use orchestrator::prelude::*;
///
/// static NIGHTLY: Schedule = cron!("30 2 * * *");
/// const HOURLY: Schedule = cron!("@hourly");
///
/// assert_ne!(NIGHTLY, HOURLY);
/// ```
///
/// The 30th of February never comes, so this is no schedule:
///
/// ```compile_fail
/// # use orchestrator::prelude::*;
/// let _ = cron!("0 6 30 2 *");
/// ```
#[proc_macro]
pub fn cron(expression: TokenStream) -> TokenStream {
    schedule::cron(&expression.into()).into()
}
