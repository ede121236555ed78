use std::collections::VecDeque;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio_util::sync::CancellationToken;

use super::asked::AskedBackfill;
use super::plan::{BackfillTick, TickAction};
use super::result::Backfilled;
use super::{Backfill, Reprocess};
use crate::error::{Error, RerunError};
use crate::executor::StartedRun;
use crate::flow::{Overlap, Request};
use crate::id::RunId;
use crate::panic::catch;
use crate::runtime::{Acceptance, Purpose};
use crate::state::{Rerun, RunState};

/// The number of runs of a backfill that are active at once, unless it or the flow sets another:
/// Airflow's default.
const AT_ONCE: u32 = 10;

impl Backfill {
    /// Creates the runs and waits for their ends.
    pub(super) async fn execute(self) -> Result<Backfilled, Error> {
        let asked = self.checked().await?;
        let ticks = self.plan(&asked).await?;
        let first = ticks.iter().find(|tick| tick.action.is_taken());
        let first = first.map(|tick| asked.request(tick.logical_date));
        asked
            .host
            .check_call(&asked.call, &first.unwrap_or_default())
            .await?;
        let at_once = self
            .at_once
            .or(asked.call.definition.max_active_runs)
            .unwrap_or(AT_ONCE) as usize;
        let mut done = Backfilled {
            total: ticks.len(),
            ..Backfilled::default()
        };
        let last = ticks.iter().rposition(|tick| tick.action.is_taken());
        let last = last.map(|at| ticks[at].logical_date);
        let mut ticks = VecDeque::from(ticks);
        let (mut under_way, mut failed) = (FuturesUnordered::new(), None);
        // the active runs, the oldest first
        let mut active: VecDeque<(RunId, CancellationToken)> = VecDeque::new();
        loop {
            while failed.is_none()
                && let Some(tick) = ticks.front()
            {
                if tick.action.is_taken() && active.len() >= at_once {
                    match self.overlap {
                        Overlap::Queue => break,
                        Overlap::Latest if Some(tick.logical_date) == last => break,
                        Overlap::Skip | Overlap::Latest => {
                            ticks.pop_front();
                            done.skip("others were active");
                            continue;
                        }
                        Overlap::CancelRunning => {
                            if let Some((_, oldest)) = active.pop_front() {
                                oldest.cancel();
                            }
                        }
                    }
                }
                let Some(tick) = ticks.pop_front() else { break };
                match tick.action {
                    TickAction::Skip => {
                        done.skip(tick.reason);
                        continue;
                    }
                    TickAction::Different => {
                        done.different.push(tick);
                        continue;
                    }
                    TickAction::Create | TickAction::Resume | TickAction::Rerun => {}
                }
                match self.start(&asked, &tick).await {
                    Ok(Some(started)) => {
                        done.started(tick.action);
                        active.push_back((started.id, started.cancel.clone()));
                        under_way.push(wait_for_end(tick, started));
                        self.tell(&done);
                    }
                    // another process was faster
                    Ok(None)
                    | Err(Error::Rerun(
                        RerunError::NotFinal { .. } | RerunError::NothingFailed { .. },
                    )) => {
                        done.skip("another process handled it");
                    }
                    Err(Error::Rerun(problem)) => done.cannot_run_again(&tick, &problem),
                    Err(error) => failed = Some(error),
                }
            }
            let Some((tick, ended)) = under_way.next().await else {
                break;
            };
            active.retain(|(run, _)| Some(*run) != tick.run);
            done.running -= 1;
            match ended {
                Ok(state) => done.ended(&tick, state),
                Err(error) => drop(failed.get_or_insert(error)),
            }
            self.tell(&done);
        }
        self.tell(&done);
        failed.map_or(Ok(done), Err)
    }

    fn tell(&self, done: &Backfilled) {
        let Some(progress) = &self.progress else {
            return;
        };
        if let Err(panicked) = catch(|| progress(done)) {
            tracing::error!(error = %panicked, "the `on_progress` callback of a backfill panicked");
        }
    }

    async fn start(
        &self,
        asked: &AskedBackfill,
        tick: &BackfillTick,
    ) -> Result<Option<StartedRun>, Error> {
        let host = &asked.host;
        match (tick.action, tick.run) {
            (TickAction::Create, _) => {
                let request = Request {
                    refresh_cache: self.refresh_cache,
                    ..asked.request(tick.logical_date)
                };
                match host.accept_here(&asked.call, &request).await? {
                    Acceptance::Started(started) => Ok(Some(started)),
                    Acceptance::Taken(_) => Ok(None),
                }
            }
            (TickAction::Resume, Some(run)) => {
                host.go_on(asked.call.definition, run, Purpose::Run).await
            }
            (TickAction::Rerun, Some(run)) => {
                let what = if self.reprocess == Reprocess::All {
                    Rerun::All
                } else {
                    Rerun::Failed
                };
                let cancel = CancellationToken::new();
                // the re-run is requested by a tokio task of its own, which continues if this
                // future is dropped: without the guard, the run would not be cancelled then
                let guard = cancel.clone().drop_guard();
                let started = host.start_rerun(run, what, cancel).await.map(Some);
                guard.disarm();
                started
            }
            (
                TickAction::Resume | TickAction::Rerun | TickAction::Skip | TickAction::Different,
                _,
            ) => Ok(None),
        }
    }
}

/// Waits for the end of a run, and cancels the run if the future is dropped.
fn wait_for_end(
    mut tick: BackfillTick,
    started: StartedRun,
) -> impl Future<Output = (BackfillTick, Result<RunState, Error>)> + Send {
    tick.run = Some(started.id);
    // created outside of the future, so that it also cancels the run if the future is dropped
    // before its first poll
    let guard = started.cancel.clone().drop_guard();
    async move {
        let ended = started.end().await;
        guard.disarm();
        (tick, ended.map(|record| record.state()))
    }
}
