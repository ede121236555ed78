//! Runs: accepted, read, taken over and reopened, with large results from their blobs.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use async_trait::async_trait;
use rusqlite::{Connection, params};

use super::SqliteStore;
use super::claim::ClaimGuard;
use super::run_log::SqliteRunLog;
use super::statements::ownership::Reopening;
use super::statements::prune::Slice;
use super::statements::{deployments, history, ownership, prune, runs, serving};
use super::writer::OwnedRun;
use crate::clock::Timestamp;
use crate::deployment::{DeploymentKey, DeploymentVersion};
use crate::error::{BlobError, Error, RerunError, StoreError};
use crate::failpoint;
use crate::id::RunId;
use crate::journal::{
    AttemptRecord, ClearedRows, EncodedResult, NewRun, ResultValue, RunEnd, RunFilter, RunRecord,
    RunSummary, Transition, clearing,
};
use crate::state::Rerun;
use crate::store::mirror::Mirror;
use crate::store::sql::history::RecordedRun;
use crate::store::sql::rows;
use crate::store::sql::statements::{UNDO_INSERT, UNDO_TAKEOVER};
use crate::store::{AbandonedRun, PreviousRun, RunCreation, RunLog, RunStore, Takeover};

#[async_trait]
impl RunStore for SqliteStore {
    async fn create_run(
        &self,
        run: NewRun,
        in_force: Option<DeploymentVersion>,
    ) -> Result<RunCreation, StoreError> {
        self.file.writer.look()?;
        let head = Arc::new(run);
        let (new, owner) = (Arc::clone(&head), self.file.owner.number());
        let guard = ClaimGuard::new(&self.file.writer, UNDO_INSERT, head.id, owner);
        let done = Arc::clone(&guard.done);
        let created = self.file.call(move |connection| {
            let created = runs::insert_run(connection, &new, Some(owner), in_force)?;
            done.store(created.is_some(), Ordering::Release);
            let is_superseded = match (created, in_force) {
                (None, Some(version)) => !deployments::is_in_force(connection, &new, version)?,
                _ => false,
            };
            Ok((created, is_superseded))
        });
        let (created, is_superseded) = created.await?;
        guard.disarm();
        let Some(row) = created else {
            // superseded first: whichever process now creates the runs of these ticks, this one does
            // not
            return Ok(match is_superseded {
                true => RunCreation::Superseded,
                false => self
                    .find_conflict(&head)
                    .await?
                    .map_or(RunCreation::Paused, RunCreation::Taken),
            });
        };
        let owned = OwnedRun::new(head.id, row, 0, false);
        let head = Arc::try_unwrap(head).unwrap_or_else(|shared| (*shared).clone());
        let log = SqliteRunLog::new(Mirror::new(head), owned, Arc::clone(&self.file.writer));
        Ok(RunCreation::New(Arc::new(log)))
    }

    async fn submit_run(&self, run: NewRun) -> Result<Option<RunRecord>, StoreError> {
        self.file.writer.look()?;
        let new = Arc::new(run);
        let head = Arc::clone(&new);
        match self
            .file
            .call(move |connection| runs::insert_run(connection, &new, None, None))
            .await?
        {
            Some(_) => Ok(None),
            None => self.find_conflict(&head).await,
        }
    }

    async fn find_run(&self, id: RunId) -> Result<Option<RunRecord>, StoreError> {
        match self
            .file
            .read(move |connection| history::read_run(connection, id))
            .await?
        {
            Some(run) => self.with_output(run).await.map(Some),
            None => Ok(None),
        }
    }

    async fn find_runs(&self, filter: &RunFilter) -> Result<Vec<RunSummary>, StoreError> {
        let filter = filter.clone();
        self.file
            .read(move |connection| history::find_runs(connection, &filter))
            .await
    }

    async fn find_previous(
        &self,
        deployment: &DeploymentKey,
        before: Timestamp,
    ) -> Result<Option<PreviousRun>, StoreError> {
        let deployment = deployment.clone();
        self.file
            .read(move |connection| runs::find_previous(connection, &deployment, before))
            .await
    }

    async fn list_runs(&self, flow: &str) -> Result<Vec<RunRecord>, StoreError> {
        let flow = flow.to_owned();
        let runs = self
            .file
            .read(move |connection| history::read_runs(connection, &flow))
            .await?;
        let mut records = Vec::with_capacity(runs.len());
        for run in runs {
            let without = run.tables.without_tasks();
            records.push(match self.with_output(run).await {
                Err(StoreError::UnreadableRun { problem, .. }) => {
                    RunRecord::from(without.unreadable(problem))
                }
                Err(StoreError::Blob(
                    lost @ (BlobError::Missing { .. } | BlobError::Altered { .. }),
                )) => RunRecord::from(without.unreadable(lost.to_string())),
                record => record?,
            });
        }
        Ok(records)
    }

    async fn read_attempts(&self, id: RunId) -> Result<Option<Vec<AttemptRecord>>, StoreError> {
        self.file
            .read(move |connection| history::read_attempts(connection, id))
            .await
    }

    async fn find_abandoned(&self) -> Result<Vec<AbandonedRun>, StoreError> {
        let dead = self.file.find_dead().await?;
        self.file
            .read(move |connection| ownership::find_abandoned(connection, &dead))
            .await
    }

    async fn take_over_run(&self, id: RunId) -> Result<Option<Takeover>, StoreError> {
        // read before the transaction: a dead process stays dead, so the list stays right
        let dead = self.file.find_dead().await?;
        let owner = self.file.owner.number();
        let gone = dead.clone();
        let guard = ClaimGuard::new(&self.file.writer, UNDO_TAKEOVER, id, owner);
        let done = Arc::clone(&guard.done);
        let taken = self.file.call(move |connection| {
            let taken = ownership::take_over_run(connection, id, &gone, owner)?;
            done.store(taken, Ordering::Release);
            Ok(taken)
        });
        if !taken.await? {
            guard.disarm();
            return Ok(None);
        }
        failpoint::hit("run-claimed");
        self.file.forget_processes(&dead).await;
        let taken = self.read_takeover(id).await;
        if taken.is_err() {
            // a run that cannot be read is released
            self.file
                .call(move |connection| {
                    connection.execute(UNDO_TAKEOVER, params![id.as_bytes(), owner])
                })
                .await?;
        }
        guard.disarm();
        taken.map(Some)
    }

    async fn reopen_run(
        &self,
        id: RunId,
        what: &Rerun,
        at: Timestamp,
    ) -> Result<Option<Takeover>, Error> {
        let Some(mut recorded) = self
            .file
            .read(move |connection| history::read_final_history(connection, id))
            .await?
        else {
            return Ok(None);
        };
        let tables = &recorded.history.tables;
        if tables.pruned && *what != Rerun::All {
            let problem = "the record of its tasks was deleted by age".to_owned();
            return Err(RerunError::NoResults { run: id, problem }.into());
        }
        let ranges = clearing::cells(tables, &recorded.history.await_order.deliveries, what)?;
        let cleared = ClearedRows {
            at,
            what: what.clone(),
            ranges,
        };
        let plan = rows::plan(&Transition::Cleared(cleared.clone())).unwrap_or_default();
        let run = Reopening {
            row: recorded.row,
            number: recorded.next,
            plan,
            pruned: tables.pruned,
        };
        recorded.clear(cleared);
        (recorded.history.takeovers, recorded.history.cancelling) = (0, false);
        // before the run is changed: if its results cannot be read, it stays final
        self.fetch_results(&mut recorded).await?;
        if run.pruned {
            let row = run.row;
            let rest = move |connection: &Connection, slice: &mut Slice| {
                prune::prune_rest(connection, row, slice)
            };
            self.file.in_slices(rest, |more| more).await?;
        }
        let owner = self.file.owner.number();
        let guard = ClaimGuard::new(&self.file.writer, UNDO_TAKEOVER, id, owner);
        let done = Arc::clone(&guard.done);
        let reopened = self.file.call(move |connection| {
            let reopened = ownership::reopen_run(connection, &run, owner)?;
            done.store(reopened, Ordering::Release);
            Ok(reopened)
        });
        if !reopened.await? {
            guard.disarm();
            return Ok(None);
        }
        failpoint::hit("run-reopened");
        recorded.next += 1;
        guard.disarm();
        Ok(Some(self.takeover(id, recorded)))
    }

    async fn claim_turn(
        &self,
        id: RunId,
        flow: &str,
        runs: u32,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let claim = |dead: Vec<i64>| {
            let flow = flow.to_owned();
            move |connection: &Connection| {
                serving::claim_turn(connection, id, &flow, runs, &dead, now)
            }
        };
        // first without the dead: most claims then need no look at the lock files
        match self.file.call(claim(Vec::new())).await? {
            true => Ok(true),
            // the processes that hold the slots may be dead
            false => match self.file.find_dead().await? {
                dead if dead.is_empty() => Ok(false),
                dead => self.file.call(claim(dead)).await,
            },
        }
    }

    async fn release_turn(&self, id: RunId) -> Result<(), StoreError> {
        let own = self.file.owner.number();
        self.file
            .call(move |connection| serving::release_turn(connection, id, own))
            .await
    }

    async fn request_cancel(&self, id: RunId) -> Result<bool, StoreError> {
        self.file
            .call(move |connection| serving::request_cancel(connection, id))
            .await
    }

    async fn find_cancel_requests(&self) -> Result<Vec<RunId>, StoreError> {
        let own = self.file.owner.number();
        let file = Arc::clone(&self.file);
        self.file
            .read(move |connection| {
                file.owner.check(connection)?;
                serving::find_cancel_requests(connection, own)
            })
            .await
    }

    async fn flush_writes(&self) -> Result<(), StoreError> {
        // the queue is in order: this is committed after everything pushed before
        self.file.call(|_| Ok(())).await
    }
}

impl SqliteStore {
    /// Returns the run that prevented a new one. Returns `None` if its flow is paused.
    async fn find_conflict(&self, new: &Arc<NewRun>) -> Result<Option<RunRecord>, StoreError> {
        let (asked, id) = (Arc::clone(new), new.id);
        let why = self.file.read(move |connection| {
            let taken = runs::find_taken(connection, &asked)?;
            Ok((taken, runs::run_exists(connection, asked.id)?))
        });
        match why.await? {
            (Some(id), _) => match self.find_run(id).await? {
                Some(record) => Ok(Some(record)),
                None => Err(self.file.damaged(format!("run {id} is not there"))),
            },
            (None, false) => Ok(None),
            (None, true) => {
                let problem = "there is a run with this id: a runtime with a seed makes the same \
                               ids in each process; use a seed only with a new store";
                Err(self.file.failed(format!("run {id}: {problem}")))
            }
        }
    }

    /// Reads a run that this process owns.
    async fn read_takeover(&self, id: RunId) -> Result<Takeover, StoreError> {
        let mut recorded = self
            .file
            .read(move |connection| history::read_history(connection, id))
            .await?;
        self.fetch_results(&mut recorded).await?;
        Ok(self.takeover(id, recorded))
    }

    /// Reads large results from their blobs.
    async fn fetch_results(&self, recorded: &mut RecordedRun) -> Result<(), StoreError> {
        for (cell, blob) in recorded.blobs.drain() {
            let result = EncodedResult::from(self.file.blobs.get(&blob).await?);
            recorded.history.results.insert(cell, result);
        }
        Ok(())
    }

    fn takeover(&self, id: RunId, recorded: RecordedRun) -> Takeover {
        let RecordedRun {
            row, next, history, ..
        } = recorded;
        let owned = OwnedRun::new(id, row, next, history.takeovers > 0);
        let log = SqliteRunLog::new(
            Mirror::of(history.tables.clone()),
            owned,
            Arc::clone(&self.file.writer),
        );
        Takeover {
            log: Arc::new(log) as Arc<dyn RunLog>,
            history,
        }
    }

    /// Returns a run's record, with its output read from its blob.
    async fn with_output(&self, run: history::StoredRun) -> Result<RunRecord, StoreError> {
        let history::StoredRun { mut tables, output } = run;
        if let (Some(end), Some(body)) = (&tables.end, output) {
            let mut end = RunEnd {
                at: end.at,
                state: end.state,
                error: end.error.clone(),
                output: None,
                encoded: None,
            };
            let output = self
                .file
                .read_result(&body)
                .await
                .map_err(|error| match error {
                    StoreError::Damaged { problem, .. } => StoreError::UnreadableRun {
                        run: tables.head.id,
                        problem,
                    },
                    error => error,
                });
            end.output = Some(ResultValue::Encoded(output?));
            tables.end = Some(Arc::new(end));
        }
        Ok(RunRecord::from(tables))
    }
}
