use std::fmt;
use std::str::FromStr;

/// When a task runs, given what became of the tasks before it. Airflow's twelve rules, with Airflow's meaning.
///
/// A rule that does not have to wait for all upstreams decides as soon as it can.
///
/// # Examples
///
/// ```
/// use orchestrator::Trigger;
///
/// let rule: Trigger = "one_success".parse()?;
/// assert_eq!(rule, Trigger::OneSuccess);
/// assert_eq!(rule.to_string(), "one_success");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Trigger {
    /// All upstreams succeeded.
    #[default]
    AllSuccess,
    /// All upstreams failed or are upstream-failed.
    AllFailed,
    /// All upstreams are done, whatever became of them.
    AllDone,
    /// All upstreams are done, none was skipped, and at least one succeeded.
    AllDoneMinOneSuccess,
    /// At least one upstream succeeded. Does not wait for all: take the others as `Option`s, since a plain parameter
    /// whose upstream is not done has no value, and the task is then upstream-failed.
    OneSuccess,
    /// At least one upstream failed or is upstream-failed. Does not wait for all.
    OneFailed,
    /// At least one upstream succeeded or failed. Does not wait for all.
    OneDone,
    /// All upstreams are done, and none failed or is upstream-failed.
    NoneFailed,
    /// All upstreams are done, none failed or is upstream-failed, and at least one succeeded.
    NoneFailedMinOneSuccess,
    /// All upstreams are done, and none was skipped.
    NoneSkipped,
    /// All upstreams were skipped.
    AllSkipped,
    /// At once, without waiting for any upstream.
    Always,
}

impl Trigger {
    /// All rules.
    pub const ALL: [Self; 12] = [
        Self::AllSuccess,
        Self::AllFailed,
        Self::AllDone,
        Self::AllDoneMinOneSuccess,
        Self::OneSuccess,
        Self::OneFailed,
        Self::OneDone,
        Self::NoneFailed,
        Self::NoneFailedMinOneSuccess,
        Self::NoneSkipped,
        Self::AllSkipped,
        Self::Always,
    ];

    /// The rule's name, as Airflow writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AllSuccess => "all_success",
            Self::AllFailed => "all_failed",
            Self::AllDone => "all_done",
            Self::AllDoneMinOneSuccess => "all_done_min_one_success",
            Self::OneSuccess => "one_success",
            Self::OneFailed => "one_failed",
            Self::OneDone => "one_done",
            Self::NoneFailed => "none_failed",
            Self::NoneFailedMinOneSuccess => "none_failed_min_one_success",
            Self::NoneSkipped => "none_skipped",
            Self::AllSkipped => "all_skipped",
            Self::Always => "always",
        }
    }
}

impl fmt::Display for Trigger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A text is not the name of a trigger rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected a trigger rule (one of {}), got `{text}`", Trigger::ALL.map(Trigger::as_str).join(", "))]
pub struct ParseTriggerError {
    text: String,
}

impl FromStr for Trigger {
    type Err = ParseTriggerError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|rule| rule.as_str() == text);
        found.ok_or_else(|| ParseTriggerError {
            text: text.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_parses_from_what_it_prints() {
        for rule in Trigger::ALL {
            assert_eq!(rule.to_string().parse(), Ok(rule));
        }
    }

    #[test]
    fn an_unknown_name_lists_the_known() {
        let error = "all_sucess".parse::<Trigger>().unwrap_err().to_string();
        assert!(
            error.contains("`all_sucess`") && error.contains("all_success, all_failed"),
            "{error}"
        );
    }
}
