//! The options of a task, which `#[task(…)]`, the `defaults(…)` of a flow and the library share.

/// The maximum of the option `retries`. A task that needs more should use `retry_if`, or a
/// schedule.
pub const MAX_RETRIES: u32 = 100;

/// Calls a macro with the table of the options that control how a task runs.
///
/// A row has an option's documentation, its name, the kind of its value, and an example for
/// messages. The caller defines each kind as a type of that name: the library as the type of the
/// value, the macros as a type that is parsed from an attribute.
///
/// | kind | value |
/// | --- | --- |
/// | `Count` | a whole number |
/// | `Factor` | a number |
/// | `Duration` | a span of time |
/// | `Delay` | a span of time, or a list of them |
/// | `Predicate` | a function of an error |
/// | `Trigger` | a trigger rule |
/// | `Pool` | the name of a pool |
/// | `Switch` | none: the option is set, or it is not |
///
/// The defaults are in the library's `Policy`. `pool_slots` does not have a row: it is a part of
/// `pool`, and an option of its own only in the attribute.
#[macro_export]
macro_rules! task_options {
    ($receiver:ident) => {
        $receiver! {
            /// The number of attempts after the first, at most 100. The default is 0.
            retries: Count = "retries = 3";

            /// The delay before the second attempt, or a list of delays. A single delay grows with
            /// [`backoff`](Self::backoff). There is no delay by default.
            retry_delay: Delay = "retry_delay = \"60s\"";

            /// The factor by which the delay grows from attempt to attempt. A factor above 1 also
            /// adds jitter. The default is 1.
            backoff: Factor = "backoff = 2.0";

            /// The upper bound of the delay. The default is 24 hours.
            max_retry_delay: Duration = "max_retry_delay = \"10m\"";

            /// The errors to retry. The default is all.
            retry_if: Predicate = "retry_if = is_transient";

            /// The maximum duration of one attempt. There is no limit by default.
            timeout: Duration = "timeout = \"5m\"";

            /// When the task runs. The default is [`Trigger::AllSuccess`].
            trigger: Trigger = "trigger = all_done";

            /// The pool of which each body of this task holds slots while it runs, one unless set
            /// otherwise. There is no pool by default.
            pool: Pool = "pool = \"database\"";

            /// Whether the task [cleans up](macro@crate::task#cleaning-up), that is, runs or
            /// continues when its run is cancelled. It needs a [`trigger`](Self::trigger) that can
            /// be met then, such as [`Trigger::AllDone`]. The default is `false`.
            run_on_cancel: Switch = "trigger = all_done, run_on_cancel";
        }
    };
}
