//! Backfills: the runs of past dates.
//!
//! [`asked`] checks what is asked for, [`plan`] decides about each tick, and [`execution`] creates the
//! runs.

mod asked;
mod execution;
mod plan;
mod result;

use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;

use chrono::NaiveDate;

pub use plan::{BackfillPlan, BackfillTick, TickAction};
pub use result::Backfilled;

use crate::error::Error;
use crate::executor::Host;
use crate::flow::{Flow, FlowCall, Overlap};
use crate::schedule::{IntoSchedule, Schedule, ScheduleError};
use crate::value::Data;

impl<T: Data> Flow<T> {
    /// Creates a backfill: one run for each tick of a schedule in a range of past dates, each
    /// created at most once. Both ends are included, and days are those of the schedule's time
    /// zone. A backfill has at most a million ticks.
    ///
    /// # Examples
    ///
    /// ```
    /// use chrono::{DateTime, NaiveDate, Utc};
    /// use orchestrator::prelude::*;
    ///
    /// #[task]
    /// async fn load(day: DateTime<Utc>) -> String { day.date_naive().to_string() }
    ///
    /// #[flow]
    /// fn daily_load(#[context] context: &Context) -> Node<String> { load(context.logical_date()) }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<()> {
    /// let runtime = Runtime::in_memory();
    /// let (from, to): (NaiveDate, NaiveDate) = ("1997-01-01".parse()?, "1997-01-31".parse()?);
    /// let backfill = daily_load().on(&runtime).backfill("0 6 * * *", from..=to).max_active_runs(4);
    /// assert_eq!(backfill.clone().run().await?.created(), 31);
    /// assert_eq!(backfill.run().await?.skipped(), 31);
    /// # Ok(())
    /// # }
    /// ```
    pub fn backfill(
        self,
        schedule: impl IntoSchedule,
        dates: RangeInclusive<NaiveDate>,
    ) -> Backfill {
        let call = Arc::clone(&self.call);
        Backfill {
            host: self.given_host(),
            deployment: self.request.deployment.clone(),
            of_one_run: self.request.of_one_run(),
            refresh_cache: self.request.refresh_cache,
            ..Backfill::new(call, Vec::new(), dates)
        }
        .schedule(schedule)
    }
}

/// A backfill over a range of past dates. [`run`](Self::run) creates its runs,
/// [`dry_run`](Self::dry_run) shows them.
///
/// A backfill belongs to a deployment of the flow: the one given by [`Flow::deployment`], or the
/// default one, or else the only one on record. A tick that already has a run in that deployment,
/// scheduled or of a backfill, keeps it; [`reprocess`](Self::reprocess) selects runs to re-run. A
/// run with another interval or other parameters is another run: its tick is listed with what
/// differs, and never counted as done ([`Backfilled::different`]).
///
/// If the flow has `depends_on_past`, each run waits until that of the tick before has succeeded,
/// which may lie before the range. After a run that failed, the backfill waits until it is re-run.
///
/// To continue an interrupted backfill, start it again: finished ticks are skipped, and runs that no
/// living process executes are resumed. Other processes may [cancel](crate::Runtime::cancel) its
/// runs while it is running.
#[derive(Clone)]
#[must_use = "a backfill does nothing until it is run"]
pub struct Backfill {
    host: Option<Arc<Host>>,
    call: Arc<FlowCall>,
    deployment: Option<Arc<str>>,
    schedules: Vec<Result<Schedule, ScheduleError>>,
    /// An option of the flow that applies to a single run only, if one was set.
    of_one_run: Option<&'static str>,
    dates: RangeInclusive<NaiveDate>,
    reprocess: Reprocess,
    adopt_manual: bool,
    at_once: Option<u32>,
    overlap: Overlap,
    newest_first: bool,
    refresh_cache: bool,
    progress: Option<ProgressCallback>,
}

/// The callback for progress.
type ProgressCallback = Arc<dyn Fn(&Backfilled) + Send + Sync>;

/// Which existing runs a backfill re-runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reprocess {
    /// No runs.
    #[default]
    None,
    /// Failed and cancelled runs: their failed tasks and everything downstream of them.
    ///
    /// A re-run keeps the parameters of the run. If the backfill has other parameters, it is
    /// refused.
    Failed,
    /// All finished runs, as a whole. The same holds for their parameters.
    All,
}

impl Backfill {
    /// Creates the backfill of a flow by its definition alone.
    #[cfg(feature = "cli")]
    pub(crate) fn of(
        runtime: &crate::runtime::Runtime,
        call: Arc<FlowCall>,
        deployment: Option<Arc<str>>,
        schedules: Vec<Schedule>,
        dates: RangeInclusive<NaiveDate>,
    ) -> Self {
        Self {
            host: Some(Arc::clone(&runtime.host)),
            deployment,
            ..Self::new(call, schedules.into_iter().map(Ok).collect(), dates)
        }
    }

    fn new(
        call: Arc<FlowCall>,
        schedules: Vec<Result<Schedule, ScheduleError>>,
        dates: RangeInclusive<NaiveDate>,
    ) -> Self {
        Self {
            host: None,
            call,
            deployment: None,
            schedules,
            of_one_run: None,
            dates,
            reprocess: Reprocess::None,
            adopt_manual: false,
            at_once: None,
            overlap: Overlap::Queue,
            newest_first: false,
            refresh_cache: false,
            progress: None,
        }
    }

    /// Adds a schedule of the deployment: the ticks are those of all schedules, and an interval goes
    /// from one of them to the next.
    pub fn schedule(mut self, schedule: impl IntoSchedule) -> Self {
        self.schedules.push(schedule.into_schedule());
        self
    }

    /// Sets the deployment that the runs belong to, like [`Flow::deployment`].
    pub fn deployment(mut self, name: impl Into<String>) -> Self {
        self.deployment = Some(name.into().into());
        self
    }

    /// Sets whether a tick counts as done if a manual run for the same date, with the same interval
    /// and parameters, succeeded. Defaults to `false`: the plan names such a run
    /// ([`BackfillTick::manual`]), and the tick gets a run of its own.
    pub fn adopt_manual(mut self, adopt: bool) -> Self {
        self.adopt_manual = adopt;
        self
    }

    /// Sets what happens to a tick while [`max_active_runs`](Self::max_active_runs) runs of the
    /// backfill are active. Defaults to [`Overlap::Queue`]: it waits until one of them has ended.
    /// The ticks of a backfill are all due at once. So [`Overlap::Skip`] creates only as many runs as
    /// may be active at first, [`Overlap::Latest`] these and the last one, and
    /// [`Overlap::CancelRunning`] cancels all but the last ones.
    pub fn overlap(mut self, overlap: Overlap) -> Self {
        self.overlap = overlap;
        self
    }

    /// Sets which existing runs are re-run. Defaults to none.
    pub fn reprocess(mut self, reprocess: Reprocess) -> Self {
        self.reprocess = reprocess;
        self
    }

    /// Sets the number of runs that are active at once. Defaults to the flow's `max_active_runs`,
    /// or to 10. Runs of backfills do not count towards the flow's own limit.
    pub fn max_active_runs(mut self, runs: u32) -> Self {
        self.at_once = Some(runs);
        self
    }

    /// Sets whether the newest ticks run first. Defaults to the oldest first. Refused if the flow has
    /// `depends_on_past`, whose runs wait for those of earlier ticks.
    pub fn newest_first(mut self, newest_first: bool) -> Self {
        self.newest_first = newest_first;
        self
    }

    /// Sets a callback that is called with the progress whenever a run starts or ends.
    pub fn on_progress(mut self, progress: impl Fn(&Backfilled) + Send + Sync + 'static) -> Self {
        self.progress = Some(Arc::new(progress));
        self
    }

    /// Returns the action for each tick, and the reason for it, without running anything.
    ///
    /// # Errors
    ///
    /// Returns an error if the schedule, the dates or the flow's parameters are invalid, or if the
    /// store fails.
    pub async fn dry_run(&self) -> Result<BackfillPlan, Error> {
        let asked = self.checked().await?;
        let ticks = self.plan(&asked).await?;
        Ok(BackfillPlan {
            flow: asked.call.definition.name,
            schedules: asked.schedules,
            ticks,
        })
    }

    /// Creates the runs and waits for their ends. A failed run does not keep others from being
    /// created; the result lists it.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`dry_run`](Self::dry_run), an error if the flow cannot run here, and
    /// an error if the runtime is stopped meanwhile.
    ///
    /// # Cancellation
    ///
    /// Dropping the future cancels the active runs and creates no more.
    pub async fn run(self) -> Result<Backfilled, Error> {
        self.execute().await
    }
}

impl fmt::Debug for Backfill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backfill")
            .field("call", &self.call)
            .field("deployment", &self.deployment)
            .field("schedules", &self.schedules)
            .field("dates", &self.dates)
            .field("reprocess", &self.reprocess)
            .finish_non_exhaustive()
    }
}
