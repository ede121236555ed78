/// The schedule of a flow, as `#[flow(schedule = "…")]` wrote it down: both texts were checked by the compiler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScheduleDef {
    /// The crontab expression.
    pub cron: &'static str,
    /// The IANA name of the zone in which the expression is read; `UTC` where none is given.
    pub timezone: &'static str,
}

/// What becomes of the ticks of a schedule that came while nobody served.
///
/// A schedule that is new has missed nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Missed {
    /// The latest of them gets a run.
    #[default]
    Latest,
    /// Each of them gets a run, the oldest first.
    All,
    /// None of them gets a run.
    None,
}

/// What becomes of a scheduled run when `max_active_runs` runs of its flow are under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Overlap {
    /// It waits for its turn.
    #[default]
    Queue,
    /// There is none, which the log says.
    Skip,
    /// The oldest of those under way is cancelled for it.
    CancelRunning,
}
