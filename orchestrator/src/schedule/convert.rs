use orchestrator_grammar::cron::Cron;

use super::Schedule;
use super::error::ScheduleError;

/// A type that a flow can be served with: a [`Schedule`], a crontab expression, or the result of a
/// constructor.
///
/// Errors are reported when the flow is served.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a schedule",
    label = "expected a `Schedule` or a crontab expression",
    note = "write for example `\"0 6 * * *\"`, `cron!(\"0 6 * * *\")` or `Schedule::every(Duration::from_secs(60))`"
)]
pub trait IntoSchedule {
    /// Converts to a schedule.
    ///
    /// # Errors
    ///
    /// Returns an error if a text is not a crontab expression, or if an option of a [`Schedule`]
    /// is invalid.
    fn into_schedule(self) -> Result<Schedule, ScheduleError>;
}

impl IntoSchedule for Schedule {
    fn into_schedule(self) -> Result<Schedule, ScheduleError> {
        match self.problem {
            Some(problem) => Err(problem.as_ref().clone()),
            None => Ok(self),
        }
    }
}

impl IntoSchedule for &Schedule {
    fn into_schedule(self) -> Result<Schedule, ScheduleError> {
        self.clone().into_schedule()
    }
}

impl IntoSchedule for Cron {
    fn into_schedule(self) -> Result<Schedule, ScheduleError> {
        Ok(self.into())
    }
}

impl IntoSchedule for &str {
    fn into_schedule(self) -> Result<Schedule, ScheduleError> {
        Ok(Schedule::cron(self)?)
    }
}

impl IntoSchedule for &String {
    fn into_schedule(self) -> Result<Schedule, ScheduleError> {
        self.as_str().into_schedule()
    }
}

impl IntoSchedule for String {
    fn into_schedule(self) -> Result<Schedule, ScheduleError> {
        self.as_str().into_schedule()
    }
}

impl<E: Into<ScheduleError>> IntoSchedule for Result<Schedule, E> {
    fn into_schedule(self) -> Result<Schedule, ScheduleError> {
        self.map_err(Into::into)?.into_schedule()
    }
}
