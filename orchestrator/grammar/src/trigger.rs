//! Trigger rules, and their names in attributes and texts.

use std::fmt;
use std::str::FromStr;

/// Defines an enum with a name for each variant, from one list of both.
macro_rules! named {
    (
        $(#[$outer:meta])*
        pub enum $type:ident {
            $($(#[$inner:meta])* $variant:ident = $name:literal,)+
        }
    ) => {
        $(#[$outer])*
        pub enum $type {
            $($(#[$inner])* $variant,)+
        }

        impl $type {
            /// All rules.
            pub const ALL: [Self; [$($name),+].len()] = [$(Self::$variant),+];

            /// Returns the rule's name, as Airflow writes it.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }
        }
    };
}

named! {
    /// When a task runs, given the states of its upstreams. These are the twelve rules of Airflow,
    /// with the same meaning.
    ///
    /// A rule decides as soon as no other upstream could change the decision by finishing later. A
    /// task's state therefore never depends on which of its upstreams finished first. (This is the
    /// only difference to Airflow: under `all_success`, a skipped upstream skips a task there while
    /// others are still running, and here once they have finished, since one of them may fail.)
    ///
    /// A task whose rule is met still waits for the upstreams of its plain parameters: take an
    /// input that it should not wait for as an `Option` or an
    /// [`Outcome`](../orchestrator/enum.Outcome.html). If one of them finishes without a value, the
    /// task is upstream-failed, with an error that names the parameter.
    ///
    /// # Examples
    ///
    /// ```
    /// # use orchestrator_grammar::trigger::Trigger;
    /// let rule: Trigger = "one_success".parse()?;
    /// assert_eq!(rule, Trigger::OneSuccess);
    /// assert_eq!(rule.to_string(), "one_success");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub enum Trigger {
        /// All upstreams succeeded. Otherwise the task is upstream-failed as soon as one failed or
        /// is upstream-failed, and skipped if, when all have ended, none did and one was skipped.
        #[default]
        AllSuccess = "all_success",
        /// All upstreams failed or are upstream-failed.
        AllFailed = "all_failed",
        /// All upstreams are done, in whatever state.
        AllDone = "all_done",
        /// All upstreams are done, none was skipped, and at least one succeeded.
        AllDoneMinOneSuccess = "all_done_min_one_success",
        /// At least one upstream succeeded. Does not wait for all, if the parameters are `Option`s.
        OneSuccess = "one_success",
        /// At least one upstream failed or is upstream-failed. Does not wait for all.
        OneFailed = "one_failed",
        /// At least one upstream succeeded or failed. Does not wait for all.
        OneDone = "one_done",
        /// All upstreams are done, and none failed or is upstream-failed.
        NoneFailed = "none_failed",
        /// All upstreams are done, none failed or is upstream-failed, and at least one succeeded.
        NoneFailedMinOneSuccess = "none_failed_min_one_success",
        /// All upstreams are done, and none was skipped.
        NoneSkipped = "none_skipped",
        /// All upstreams were skipped.
        AllSkipped = "all_skipped",
        /// At once, waiting only for the upstreams of plain parameters.
        Always = "always",
    }
}

/// Returns `true` if the rule can be met after an upstream was cancelled.
///
/// The other rules require the same state of all upstreams, and a cancelled one has neither
/// succeeded, failed nor been skipped.
pub fn may_be_met_after_a_cancel(rule: Trigger) -> bool {
    match rule {
        Trigger::AllSuccess | Trigger::AllFailed | Trigger::AllSkipped => false,
        Trigger::AllDone
        | Trigger::AllDoneMinOneSuccess
        | Trigger::OneSuccess
        | Trigger::OneFailed
        | Trigger::OneDone
        | Trigger::NoneFailed
        | Trigger::NoneFailedMinOneSuccess
        | Trigger::NoneSkipped
        | Trigger::Always => true,
    }
}

impl fmt::Display for Trigger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The error of a text that is not the name of a trigger rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseTriggerError {
    text: String,
}

impl fmt::Display for ParseTriggerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = Trigger::ALL.map(Trigger::as_str).join(", ");
        write!(
            f,
            "expected a trigger rule (one of {known}), got `{}`",
            self.text
        )
    }
}

impl std::error::Error for ParseTriggerError {}

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
