//! The macros of [`orchestrator`](https://docs.rs/orchestrator), which re-exports them: use that
//! crate.
//!
//! Each attribute is processed in the order of its files: `parse` (tokens to options), `model` (the
//! source as plain data), `check` (all rules) and `expand` (back to tokens, which cannot fail). All
//! mistakes are reported together, each at its tokens, along with a stand-in for the requested item
//! (`fallback`). Code that both attributes share is in `attribute`.
//!
//! The expansions are short and call `orchestrator::__private`, where ordinary code does the work.

mod attribute;
mod flow;
mod schedule;
mod task;

use proc_macro::TokenStream;

/// Turns a function into a task.
///
/// An `async fn` runs on the runtime's threads; a plain `fn` is blocking work and runs on threads
/// of its own. Calling the function does not run it, but returns a `Node` of its output, which a
/// flow passes to other tasks. Outside a flow, awaiting the node runs the task at once.
///
/// ```
/// use orchestrator::prelude::*;
///
/// #[task(retries = 3, retry_delay = "60s", backoff = 2)]
/// async fn extract(day: u32) -> Result<Vec<u64>> {
///     Ok(vec![u64::from(day); 3])
/// }
///
/// /// Borrows its input, a resource and the context.
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
/// A task has at most 12 inputs, each with a name and a type that is data
/// (`Clone + Serialize + DeserializeOwned + Send + Sync + 'static`). `&T`, `&[T]` and `&str` borrow
/// a stored `T`, `Vec<T>` or `String`. An owned value is moved if the task is its last user, and
/// cloned otherwise. An `Option<T>` takes the value if there is one, an `Outcome<T>` the outcome of
/// the upstream node, whatever it is.
///
/// `#[resource] name: &T` takes the resource of that type from the runtime, and
/// `#[context] name: &Context` the properties of the run and the attempt. `#[connection("…")]`,
/// `#[variable("…")]` and `#[secret("…")]` take what is [looked up by
/// name](#connections-variables-and-secrets). None of them is an input: the caller does not pass
/// them. `#[no_cache]` excludes an input or a variable from the [key of a cached result](#caching).
///
/// # Output
///
/// Data, a `Result` of data with any error, or nothing. The task can fail if its return type is
/// named `Result`: an alias with another name is refused.
///
/// # Options
///
/// Options that the call sets (`extract(1).retries(5)`) override these, and these override the
/// `defaults(…)` of a flow.
///
/// | option | meaning | default |
/// | --- | --- | --- |
/// | `name = "…"` | name of the task in keys and on pages; no `/`, `#`, `[`, `]` or white space | the function's name |
/// | `description = "…"` | what it does | the doc comment |
/// | `tags = ["…", …]` | words to find it by | none |
/// | `retries = n` | attempts after the first, at most 100 | 0 |
/// | `retry_delay = "60s"` | delay before the second attempt | none |
/// | `retry_delay = ["1s", "10s"]` | delay before each further attempt; the last repeats. Not with `backoff` or `max_retry_delay` | |
/// | `backoff = 2` | factor by which the delay grows with each attempt, 1 or more; above 1 delays vary at random between half and whole | 1 |
/// | `max_retry_delay = "10m"` | upper bound of the delay; at least `retry_delay` | 24 hours |
/// | `retry_if = path` | a `fn(&TaskError) -> bool`: which errors are worth another attempt; if it panics, the task fails | all |
/// | `timeout = "5m"` | maximum duration of one attempt; the next follows if there are retries left | no limit |
/// | `trigger = rule` | when the task runs, given the states of its upstreams: one of `all_success`, `all_failed`, `all_done`, `all_done_min_one_success`, `one_success`, `one_failed`, `one_done`, `none_failed`, `none_failed_min_one_success`, `none_skipped`, `all_skipped`, `always` | `all_success` |
/// | `run_on_cancel` | the task cleans up: it runs, or continues, when its run is cancelled or times out, or the flow's body fails; see [Cleaning up](#cleaning-up). Needs a `trigger` that can be met then; not among the `defaults(…)` of a flow | it is cancelled |
/// | `pool = "…"` | pool of which the task's bodies take slots | none |
/// | `pool_slots = n` | number of the pool's slots that one body takes; with `pool` only | 1 |
/// | `cache` | results are cached without a time limit; see [Caching](#caching). Not among the `defaults(…)` of a flow, like the two below | not cached |
/// | `cache = "1h"` | results are cached until they are that old | |
/// | `cache_key = path` | function of the borrowed inputs, whose result replaces them in the key; with `cache` only | the inputs |
/// | `version = "…"` | replaces the code in the key; with `cache` only | the code |
///
/// Durations are whole numbers with a unit, `ms`, `s`, `m`, `h` or `d`, each at most once and the
/// larger first, such as `"90s"` or `"1h30m"`; at most `"36500d"`.
///
/// # Cleaning up
///
/// `trigger = all_done, run_on_cancel` makes a task clean up after others, however they end: also
/// when the run is cancelled, times out, or is ended by an error of the flow's body. It does not
/// change the state of the run.
///
/// - A cancelled task is done, and has neither succeeded, failed nor been skipped. The rules
///   `all_success`, `all_failed` and `all_skipped`, which require the same state of all upstreams,
///   are therefore refused. Take an input that may be missing as an `Option<T>` or an `Outcome<T>`,
///   or wait for it with `.after(…)`.
/// - It runs if any of its direct or indirect upstreams had started or finished before the
///   cancellation. Otherwise there is nothing to clean up, and it is cancelled.
/// - Once all other bodies of the run have ended, the clean-up tasks share [the grace
///   period](../orchestrator/struct.RuntimeBuilder.html#method.grace), retries included. Those that
///   are unfinished at its end are cancelled. A clean-up task that is already running when the run
///   is cancelled continues, and its context reports the cancellation only at the end of the grace
///   period.
/// - If the process dies in the meantime, the next process that resumes the run runs them again. A
///   process that *stops* cancels nothing: its runs are resumed later.
///
/// ```
/// use orchestrator::prelude::*;
///
/// #[task]
/// async fn create_cluster() -> String { "c-7".into() }
///
/// #[task(timeout = "2h")]
/// async fn train(cluster: &str) -> f64 { 0.93 }
///
/// #[task(trigger = all_done, run_on_cancel, retries = 2)]
/// async fn delete_cluster(cluster: Option<String>) {
///     if let Some(cluster) = cluster {
///         println!("deleting {cluster}");
///     }
/// }
///
/// #[flow]
/// fn training() -> Node<f64> {
///     let cluster = create_cluster();
///     let accuracy = train(&cluster);
///     delete_cluster(&cluster).after(&accuracy);
///     accuracy
/// }
/// # let _ = training();
/// ```
///
/// # Connections, variables and secrets
///
/// The parameters of a task name what it needs from outside. It is therefore known before anything
/// runs: one that is missing, or that cannot be read, is an error before the run starts.
///
/// | parameter | what it takes |
/// | --- | --- |
/// | `#[connection("…")] name: &T` | the client of a service, `T: Connect`, made of the connection with this id when it is first needed, and shared by all tasks; a `&Connection` is the connection itself |
/// | `#[variable("…")] name: T` | the value of a variable: for `String` and `&str` the text as it is; for any other `T: Deserialize`, also as `&T` or `&[T]`, the text as JSON or, if that fails, as a JSON string |
/// | `#[secret("…")] name: &Secret` | a text that is never printed or recorded, such as the key of an API |
///
/// The name is a string literal of 1 to 200 letters, digits, `_`, `-` and `.`, and does not begin
/// with a dot. If the name is data, `connection`, `variable` and `secret` of the context look it up
/// in the body.
///
/// The first of these places that has the name is used: what was given to the runtime
/// (`.variable("batch_size", 500)`), the environment (`ORCHESTRATOR_CONN_…`, `ORCHESTRATOR_VAR_…`
/// and `ORCHESTRATOR_SECRET_…`, with the name in upper case), a folder of files, the store, and
/// vaults.
///
/// ```
/// use orchestrator::prelude::*;
/// use orchestrator::{Connect, Connection, Secret};
///
/// struct Shop { url: String }
///
/// impl Connect for Shop {
///     async fn connect(connection: &Connection) -> Result<Self> {
///         let host = connection.host().ok_or("expected a host")?;
///         Ok(Self { url: format!("https://{host}") })
///     }
/// }
///
/// #[task(retries = 3, retry_delay = "60s")]
/// async fn load(
///     day: u32,
///     #[connection("shop_default")] shop: &Shop,
///     #[variable("batch_size")] batch: u32,
///     #[secret("shop_api_key")] key: &Secret,
/// ) -> Result<u64> {
///     fetch(&shop.url, key.expose(), day, batch).await
/// }
/// # async fn fetch(_: &str, _: &str, _: u32, batch: u32) -> Result<u64> { Ok(batch.into()) }
///
/// #[flow]
/// fn pipeline(day: u32) -> Node<u64> {
///     load(day)
/// }
/// # let _ = pipeline(1);
/// ```
///
/// # Caching
///
/// The key does *not* cover functions and constants that the body uses: if only they change, the
/// old results stay in use. Change `version = "…"` to invalidate them.
///
/// The result of a cached task is stored under a key: the task, its code, its inputs and the values
/// of its variables. A call with an equal key, in any run, gets that result, and the body does not
/// run. Failures are not cached.
///
/// - The task is its path: the crate, the modules and functions that enclose it, and its name. Two
///   tasks with the same path, which a macro can create in two blocks of a function, are refused if
///   their code is also the same: each would get the results of the other, whatever constants it
///   uses.
/// - The code is that of the function: parameters, return type and body, without layout, comments
///   and attributes, but with the names of connections, variables and secrets. `version` replaces it: the results then stay in use, however the code changes,
///   until `version` changes.
/// - Options are never part of the key, nor are resources, connections, secrets and the context.
///   Neither is an input or a variable marked `#[no_cache]`, such as a switch for logging, on which
///   the result does not depend.
/// - Maps are sorted for the key, and so are the elements of a parameter that is written as a
///   `HashSet<…>`. A `HashSet` *inside* another type is hashed in its arbitrary order of iteration:
///   use a `BTreeSet` there, or `cache_key`.
/// - `cache_key` names a function that takes every input, and no other parameter, by reference
///   (`&T`, or `&str` and `&[T]`) and returns anything that is `Serialize`. Equal results give equal
///   keys. The values of variables are part of the key beside the result.
/// - A task with an input that cannot be hashed, because its `Serialize` fails or panics, runs
///   uncached, with a warning that names the parameter. The same holds for a `cache_key` that
///   panics.
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
/// /// Orders are only ever added, so their number identifies those of a customer.
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
/// A task can be defined wherever a function can: in a module, a function, an `impl` block. It must
/// not use `self`, `Self`, generics or `where`, and must not be `const`, `unsafe` or `extern`.
/// Inside its body, its name refers to the plain function: a recursive task calls itself, and does
/// not create a node. Attributes other than docs, `cfg` and lints (such as `#[instrument]`) apply
/// to that function.
#[proc_macro_attribute]
pub fn task(options: TokenStream, item: TokenStream) -> TokenStream {
    task::task(options.into(), item.into()).into()
}

/// Turns a function into a flow.
///
/// The function wires tasks: it calls them, passes their nodes to other tasks, and returns the node
/// whose value is the result of the flow. Calling it does not run it, but returns a `Flow`, to be
/// run, served, awaited or drawn.
///
/// A plain `fn` is a static graph, known and checked before anything runs. An `async fn` may await
/// nodes, and create others depending on their results.
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
/// `schedule` sets when runs of the flow are due, wherever it is served. The expression and the
/// time zone are checked at compile time.
///
/// ```
/// use orchestrator::prelude::*;
///
/// #[task]
/// async fn refresh(table: &str) -> u64 {
///     table.len() as u64
/// }
///
/// /// Runs each weekday morning; after a stop, once for each of the missed days.
/// #[flow(schedule = "0 6 * * MON-FRI", timezone = "Europe/Zurich", missed = "all")]
/// fn report() -> Node<u64> {
///     refresh("orders")
/// }
///
/// /// Runs every minute, unless the previous run is still active.
/// #[flow(schedule = "* * * * *", max_active_runs = 1, overlap = "skip")]
/// fn sync() -> Node<u64> {
///     refresh("customers")
/// }
/// # let _ = (report(), sync());
/// ```
///
/// # Runs that depend on the past
///
/// With `depends_on_past`, the run of a tick waits until the run of the previous tick has succeeded,
/// such as for balances that are carried forward from day to day.
///
/// ```
/// use orchestrator::prelude::*;
///
/// #[task]
/// async fn carry_forward(window: Interval) -> i64 {
///     (window.end - window.start).num_hours()
/// }
///
/// #[flow(schedule = "@daily", missed = "all", depends_on_past)]
/// fn balances(#[context] context: &Context) -> Node<i64> {
///     carry_forward(context.interval())
/// }
/// # let _ = balances();
/// ```
///
/// - The previous run is the one with the latest logical date before, scheduled or of a backfill, of
///   the same deployment. Ticks without a run do not count, so a dropped tick holds nothing up, and
///   the first run does not wait. Manual runs neither wait nor count.
/// - If the previous run failed or was cancelled, the run waits until that one is re-run with
///   success, and those after it wait as well. A waiting run can be cancelled; the one after it then
///   waits until it is re-run.
/// - A waiting run is pending and holds no slot: other runs of the flow may run meanwhile. It is
///   active as far as `overlap` is concerned. While a run waits for a failed one, `"skip"` skips
///   further ticks. `"cancel_running"` and `"latest"` are refused: they cancel runs to make room, and
///   the run after a cancelled one would wait until that is re-run.
/// - A run that has begun goes on, also if it is resumed by another process and the previous one is
///   re-run in the meantime.
/// - A backfill runs in the order of time. It does not end while its runs wait for a failed one.
///
/// # Parameters
///
/// A flow has at most 12 parameters, owned data, which the call passes. `#[context] name: &Context`
/// takes the properties of the run. To pass a node, await it first, or write an ordinary function
/// over nodes instead of a flow.
///
/// # Output
///
/// A `Node`, a `Mapped`, a tuple of them, or nothing; an `async fn` may return a `Result` of data
/// instead. Aliases of these types are refused.
///
/// # Options
///
/// | option | meaning | default |
/// | --- | --- | --- |
/// | `name = "…"` | name of the flow, unique in the binary; no `/`, `#`, `[`, `]` or white space | the function's name |
/// | `description = "…"` | what it does | the doc comment |
/// | `tags = ["…", …]` | words to find it by | none |
/// | `schedule = "0 6 * * *"` | when its runs are due: a crontab expression as for [`cron!`](macro@cron), with five fields, or six with seconds first, or `@daily` and the like | no schedule |
/// | `timezone = "Europe/Zurich"` | time zone of `schedule`: an IANA name; with `schedule` only | `"UTC"` |
/// | `missed = "…"` | which of the ticks that were due while no process served the flow get a run: `"latest"`, `"all"` (the oldest first), `"none"`, or `"7d"` (those of the last seven days); with `schedule` only | `"latest"` |
/// | `missed = n` | the latest ones of these ticks get a run, at most `n`, 1 or more | |
/// | `max_active_runs = n` | maximum number of active runs, 1 or more; others wait, unless `overlap` is set | no limit |
/// | `overlap = "…"` | handling of a tick when `max_active_runs` runs are active: `"queue"` (its run waits for a slot), `"skip"` (it is skipped, and logged), `"cancel_running"` (the oldest active run is cancelled), or `"latest"` (its run waits for a slot in place of the scheduled runs that were waiting for one, which are cancelled); with `max_active_runs` only | `"queue"` |
/// | `depends_on_past` | the run of a tick waits until that of the previous tick has succeeded; see [above](#runs-that-depend-on-the-past) | it does not wait |
/// | `timeout = "2h"` | maximum duration of a run; unfinished tasks are then cancelled, and the run fails | no limit |
/// | `defaults(…)` | options of [`task`](macro@task) for the tasks of the flow that neither the call nor the task sets; all except `name`, `description` and `tags` | none |
/// | `resources = [Type, …]` | resources that its tasks need, checked before a run starts; meant for an `async fn`, since the tasks of a plain `fn` are known | none |
/// | `connections = ["…", …]` | ids of connections that its tasks need, looked up before a run starts; meant for an `async fn`, like the two below | none |
/// | `variables = ["…", …]` | names of variables that its tasks need | none |
/// | `secrets = ["…", …]` | names of secrets that its tasks need | none |
///
/// Durations are written as for [`task`](macro@task).
///
/// # Limits
///
/// The same as for [`task`](macro@task). A flow does not take resources, connections,
/// variables or secrets: its tasks do.
#[proc_macro_attribute]
pub fn flow(options: TokenStream, item: TokenStream) -> TokenStream {
    flow::flow(options.into(), item.into()).into()
}

/// Creates a `Schedule` from a crontab expression, checked at compile time.
///
/// The argument is a string literal: five fields (minute, hour, day-of-month, month, day-of-week),
/// or six with seconds first, or `@yearly`, `@monthly`, `@weekly`, `@daily` or `@hourly`. The day
/// fields may have crontab's extensions, such as `L` for the last day of the month. An invalid
/// expression, or one that would never fire, is a compile error with the same text as that of
/// `Schedule::cron`, which reads the same expressions at run time. `Cron` documents the grammar.
///
/// The time zone is UTC, unless `Schedule::timezone` sets another one.
///
/// ```
/// use orchestrator::prelude::*;
///
/// let schedule = cron!("*/15 9-17 * * MON-FRI");
/// assert_eq!(schedule.name(), "*/15 9-17 * * 1-5");
/// ```
///
/// It can be used in constants:
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
/// The 30th of February never comes, so this does not compile:
///
/// ```compile_fail
/// # use orchestrator::prelude::*;
/// let _ = cron!("0 6 30 2 *");
/// ```
#[proc_macro]
pub fn cron(expression: TokenStream) -> TokenStream {
    schedule::cron(&expression.into()).into()
}
