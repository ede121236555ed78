//! Evaluates trigger rules, given the states of the upstreams so far.
//!
//! The rules are those of Airflow's `TriggerRuleDep` (3.3):
//! `tests/fixtures/trigger_rule_vectors.csv` was made by running it, and is a test of this file. A
//! rule that does not have to wait for all upstreams decides as soon as no other upstream could
//! change the decision by finishing later, and not before. So a state never depends on which
//! upstream finished first.

pub(crate) use orchestrator_grammar::trigger::may_be_met_after_a_cancel;

use crate::state::TaskState;
use crate::task::Trigger;

/// The number of upstreams, in total and by final state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) total: u32,
    pub(crate) success: u32,
    pub(crate) failed: u32,
    pub(crate) upstream_failed: u32,
    pub(crate) skipped: u32,
    /// Counted for tasks with `run_on_cancel`. Other tasks are cancelled together with the
    /// upstream.
    pub(crate) cancelled: u32,
}

/// The decision of a rule on a tally.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TriggerDecision {
    Wait,
    Run,
    Skip,
    UpstreamFailed,
    /// An upstream that it needs was cancelled.
    Cancel,
}

impl Tally {
    /// Counts the final state of one upstream.
    pub(crate) fn count(&mut self, state: TaskState) {
        match state {
            TaskState::Success => self.success += 1,
            TaskState::Failed => self.failed += 1,
            TaskState::UpstreamFailed => self.upstream_failed += 1,
            TaskState::Skipped => self.skipped += 1,
            TaskState::Cancelled => self.cancelled += 1,
            TaskState::Pending | TaskState::Running | TaskState::Retrying => {}
        }
    }

    pub(crate) fn plus(self, other: Self) -> Self {
        Self {
            total: self.total + other.total,
            success: self.success + other.success,
            failed: self.failed + other.failed,
            upstream_failed: self.upstream_failed + other.upstream_failed,
            skipped: self.skipped + other.skipped,
            cancelled: self.cancelled + other.cancelled,
        }
    }
}

/// Decides what to do with a task, given the tally of its upstreams. Without upstreams, every rule
/// runs the task.
pub(crate) fn decide(rule: Trigger, tally: Tally) -> TriggerDecision {
    use TriggerDecision::{Cancel, Run, Skip, UpstreamFailed, Wait};
    let Tally {
        total,
        success,
        failed,
        upstream_failed,
        skipped,
        cancelled,
    } = tally;
    let broken = failed + upstream_failed;
    let all_done = success + broken + skipped + cancelled == total;
    if total == 0 {
        return Run;
    }
    let when = |condition: bool, decision| condition.then_some(decision);
    let only_cancelled = success == 0 && cancelled > 0;
    // For each rule: what it decides at once, and what once all upstreams are done. A condition that
    // decides at once must hold whatever the others become: a skip decides nothing under
    // `all_success`, since a failure may follow.
    let (early, late) = match rule {
        Trigger::Always => (Some(Run), Run),
        Trigger::AllSuccess => (
            when(broken > 0, UpstreamFailed),
            if skipped > 0 { Skip } else { Run },
        ),
        Trigger::AllFailed => (when(success + skipped > 0, Skip), Run),
        Trigger::AllDone => (None, Run),
        Trigger::AllDoneMinOneSuccess => (
            when(skipped > 0, Skip),
            match success {
                0 if only_cancelled => Cancel,
                0 => UpstreamFailed,
                _ => Run,
            },
        ),
        Trigger::OneSuccess => (
            when(success > 0, Run),
            match skipped == total {
                _ if cancelled > 0 => Cancel,
                true => Skip,
                false => UpstreamFailed,
            },
        ),
        Trigger::OneFailed => (
            when(broken > 0, Run),
            if cancelled > 0 { Cancel } else { Skip },
        ),
        Trigger::OneDone => (
            when(success + failed > 0, Run),
            if cancelled > 0 { Cancel } else { Skip },
        ),
        Trigger::NoneFailed => (when(broken > 0, UpstreamFailed), Run),
        Trigger::NoneFailedMinOneSuccess => (
            when(broken > 0, UpstreamFailed),
            match skipped == total {
                _ if only_cancelled => Cancel,
                true => Skip,
                false => Run,
            },
        ),
        Trigger::NoneSkipped => (when(skipped > 0, Skip), Run),
        Trigger::AllSkipped => (when(success + broken > 0, Skip), Run),
    };
    match early {
        Some(decision) => decision,
        None if all_done => late,
        None => Wait,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where Airflow skips under `all_success` while other upstreams have yet to end. A failure
    /// among those would make it upstream-failed, had it come first: here the rule waits for them.
    const AIRFLOW_SKIPS_EARLY: [&str; 4] = ["K-", "SK-", "KK-", "K--"];

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
                    TriggerDecision::Wait => "WAIT",
                    TriggerDecision::Run => "RUN",
                    TriggerDecision::Skip => "SKIPPED",
                    TriggerDecision::UpstreamFailed => "UPSTREAM_FAILED",
                    TriggerDecision::Cancel => "CANCELLED",
                };
                if *rule == Trigger::AllSuccess && AIRFLOW_SKIPS_EARLY.contains(&upstreams) {
                    assert_eq!(
                        (decided, expected),
                        ("WAIT", "SKIPPED"),
                        "{rule} with upstreams {upstreams}"
                    );
                } else {
                    assert_eq!(decided, expected, "{rule} with upstreams {upstreams}");
                }
                checked += 1;
            }
        }
        assert_eq!(checked, 55 * 12);
    }

    const ENDS: [TaskState; 4] = [
        TaskState::Success,
        TaskState::Failed,
        TaskState::UpstreamFailed,
        TaskState::Skipped,
    ];

    /// All lists of ends of a length: each order of each multiset is one of them.
    fn lists_of_ends(length: usize) -> impl Iterator<Item = Vec<TaskState>> {
        (0..ENDS.len().pow(length as u32)).map(move |number| {
            (0..length)
                .map(|at| ENDS[number / ENDS.len().pow(at as u32) % ENDS.len()])
                .collect()
        })
    }

    /// What a rule decides, when upstreams end one after the other, and after how many of them.
    fn decided(rule: Trigger, ends: &[TaskState]) -> (usize, TriggerDecision) {
        let mut tally = Tally {
            total: ends.len() as u32,
            ..Tally::default()
        };
        let mut after = 0;
        while decide(rule, tally) == TriggerDecision::Wait {
            tally.count(ends[after]);
            after += 1;
        }
        (after, decide(rule, tally))
    }

    #[test]
    fn a_decision_does_not_depend_on_the_order_of_ends() {
        for length in 1..=5 {
            for rule in Trigger::ALL {
                let mut by_ends = std::collections::HashMap::new();
                for ends in lists_of_ends(length) {
                    let mut multiset = ends.clone();
                    multiset.sort_unstable_by_key(|state| state.as_str());
                    let (_, decision) = decided(rule, &ends);
                    let first = *by_ends.entry(multiset).or_insert(decision);
                    assert_eq!(
                        decision, first,
                        "{rule} with upstreams that end as {ends:?}"
                    );
                }
            }
        }
    }

    /// The other half: no rule waits for an upstream that cannot change its decision, except
    /// `all_done`, which waits by definition.
    #[test]
    fn a_rule_decides_as_soon_as_nothing_can_change_its_answer() {
        for rule in Trigger::ALL
            .into_iter()
            .filter(|rule| *rule != Trigger::AllDone)
        {
            for ends in lists_of_ends(4) {
                let (after, decision) = decided(rule, &ends);
                let before = &ends[..after.saturating_sub(1)];
                let is_open = lists_of_ends(ends.len() - before.len())
                    .any(|rest| decided(rule, &[before, &rest].concat()).1 != decision);
                assert!(
                    after == 0 || is_open,
                    "{rule} could have decided after {before:?}"
                );
            }
        }
    }

    #[test]
    fn cancelled_upstream_counts_only_as_done() {
        // with one upstream cancelled and another that ended so: what all rules make of it that may
        let ends = [
            TaskState::Cancelled,
            TaskState::Success,
            TaskState::Failed,
            TaskState::Skipped,
        ];
        use TriggerDecision::{Cancel, Run, Skip, UpstreamFailed};
        for (rule, expected) in [
            (Trigger::AllDone, [Run, Run, Run, Run]),
            (Trigger::AllDoneMinOneSuccess, [Cancel, Run, Cancel, Skip]),
            (Trigger::OneSuccess, [Cancel, Run, Cancel, Cancel]),
            (Trigger::OneFailed, [Cancel, Cancel, Run, Cancel]),
            (Trigger::OneDone, [Cancel, Run, Run, Cancel]),
            (Trigger::NoneFailed, [Run, Run, UpstreamFailed, Run]),
            (
                Trigger::NoneFailedMinOneSuccess,
                [Cancel, Run, UpstreamFailed, Cancel],
            ),
            (Trigger::NoneSkipped, [Run, Run, Run, Skip]),
            (Trigger::Always, [Run, Run, Run, Run]),
        ] {
            assert!(may_be_met_after_a_cancel(rule), "{rule}");
            for (end, expected) in ends.into_iter().zip(expected) {
                let mut tally = Tally {
                    total: 2,
                    ..Tally::default()
                };
                tally.count(TaskState::Cancelled);
                tally.count(end);
                assert_eq!(
                    decide(rule, tally),
                    expected,
                    "{rule} with a cancelled upstream and one that is {end}"
                );
            }
        }
        let refused = [Trigger::AllSuccess, Trigger::AllFailed, Trigger::AllSkipped];
        assert!(
            refused
                .into_iter()
                .all(|rule| !may_be_met_after_a_cancel(rule))
        );
    }

    #[test]
    fn without_upstreams_every_rule_runs() {
        for rule in Trigger::ALL {
            assert_eq!(
                decide(rule, Tally::default()),
                TriggerDecision::Run,
                "{rule}"
            );
        }
    }
}
