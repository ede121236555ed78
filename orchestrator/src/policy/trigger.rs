//! Trigger rules as a function of what became of the upstreams so far.
//!
//! The rules are those of Airflow's `TriggerRuleDep` (3.3), `shared/fixtures/trigger_rule_vectors.csv` was made by
//! running it, and is a test of this file.

use crate::state::TaskState;
use crate::task::Trigger;

/// How many upstreams there are, and what became of them so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) total: u32,
    pub(crate) success: u32,
    pub(crate) failed: u32,
    pub(crate) upstream_failed: u32,
    pub(crate) skipped: u32,
}

/// What a rule makes of a tally.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    Wait,
    Run,
    Skip,
    UpstreamFailed,
}

impl Tally {
    /// Counts the end of one upstream. Cancelled is no outcome, and never gets here.
    pub(crate) fn count(&mut self, state: TaskState) {
        match state {
            TaskState::Success => self.success += 1,
            TaskState::Failed => self.failed += 1,
            TaskState::UpstreamFailed => self.upstream_failed += 1,
            TaskState::Skipped => self.skipped += 1,
            TaskState::Pending
            | TaskState::Running
            | TaskState::Retrying
            | TaskState::Cancelled => {}
        }
    }

    pub(crate) fn plus(self, other: Self) -> Self {
        Self {
            total: self.total + other.total,
            success: self.success + other.success,
            failed: self.failed + other.failed,
            upstream_failed: self.upstream_failed + other.upstream_failed,
            skipped: self.skipped + other.skipped,
        }
    }
}

/// What becomes of a task with these upstreams. Without upstreams every rule runs.
pub(crate) fn decide(rule: Trigger, tally: Tally) -> Decision {
    use Decision::{Run, Skip, UpstreamFailed, Wait};
    let Tally {
        total,
        success,
        failed,
        upstream_failed,
        skipped,
    } = tally;
    let broken = failed + upstream_failed;
    let all_done = success + broken + skipped == total;
    if total == 0 {
        return Run;
    }
    // each row: what decides at once, in this order; then what is decided when all are done
    let early = match rule {
        Trigger::Always => Some(Run),
        Trigger::AllSuccess if broken > 0 => Some(UpstreamFailed),
        Trigger::AllSuccess if skipped > 0 => Some(Skip),
        Trigger::AllFailed if success + skipped > 0 => Some(Skip),
        Trigger::OneSuccess if success > 0 => Some(Run),
        Trigger::OneFailed if broken > 0 => Some(Run),
        Trigger::OneDone if success + failed > 0 => Some(Run),
        Trigger::NoneFailed | Trigger::NoneFailedMinOneSuccess if broken > 0 => {
            Some(UpstreamFailed)
        }
        Trigger::NoneSkipped | Trigger::AllDoneMinOneSuccess if skipped > 0 => Some(Skip),
        Trigger::AllSkipped if success + broken > 0 => Some(Skip),
        _ => None,
    };
    match (early, all_done) {
        (Some(decision), _) => decision,
        (None, false) => Wait,
        (None, true) => match rule {
            Trigger::OneSuccess if skipped == total => Skip,
            Trigger::OneSuccess => UpstreamFailed,
            Trigger::OneFailed | Trigger::OneDone => Skip,
            Trigger::NoneFailedMinOneSuccess if skipped == total => Skip,
            Trigger::AllDoneMinOneSuccess if success == 0 => UpstreamFailed,
            _ => Run,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_decides_as_airflow_does() {
        let table = include_str!("../../tests/fixtures/trigger_rule_vectors.csv");
        let mut lines = table.lines();
        let rules: Vec<Trigger> = lines
            .next()
            .unwrap()
            .split(',')
            .skip(1)
            .map(|name| name.parse().unwrap())
            .collect();
        assert_eq!(rules.len(), Trigger::ALL.len());
        let mut checked = 0;
        for line in lines {
            let mut cells = line.split(',');
            let upstreams = cells.next().unwrap();
            let mut tally = Tally {
                total: upstreams.len() as u32,
                ..Tally::default()
            };
            for state in upstreams.chars() {
                tally.count(match state {
                    'S' => TaskState::Success,
                    'F' => TaskState::Failed,
                    'U' => TaskState::UpstreamFailed,
                    'K' => TaskState::Skipped,
                    _ => TaskState::Pending,
                });
            }
            for (rule, expected) in rules.iter().zip(cells) {
                let decided = match decide(*rule, tally) {
                    Decision::Wait => "WAIT",
                    Decision::Run => "RUN",
                    Decision::Skip => "SKIPPED",
                    Decision::UpstreamFailed => "UPSTREAM_FAILED",
                };
                assert_eq!(decided, expected, "{rule} with upstreams {upstreams}");
                checked += 1;
            }
        }
        assert_eq!(checked, 55 * 12);
    }

    #[test]
    fn without_upstreams_every_rule_runs() {
        for rule in Trigger::ALL {
            assert_eq!(decide(rule, Tally::default()), Decision::Run);
        }
    }
}
