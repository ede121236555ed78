//! Statements that SQLite and PostgreSQL share, with their parameters as SQLite writes them: `?1`
//! is `$1` in PostgreSQL.
//!
//! Statements that need the words of one database, such as hints, its functions or `OR IGNORE`, are
//! in the folder of its store. So are statements with several columns that are read by position,
//! beside the code that reads them.

use super::codes::sql;

/// Inserts a pending run, unless one with its key, its tick or its id exists; or it is scheduled
/// and its flow is paused, or other schedules of its deployment are in force than those of the
/// process.
///
/// The conditions are part of the `INSERT`: two processes cannot both create the run of a tick.
pub(crate) const INSERT_RUN: &str = "INSERT INTO runs \
     (id, flow, kind, key, logical_date, interval_start, interval_end, parameters, refresh, \
     created, state, started, finished, owner, takeovers, cancelling, pruned, deployment) \
     SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?12, 0, 0, ?11, 0, 0, 0, ?14 \
     WHERE (?3 <> ?13 OR NOT EXISTS (SELECT 1 FROM pauses WHERE flow = ?2)) \
     AND (?15 IS NULL OR EXISTS (SELECT 1 FROM deployments \
     WHERE flow = ?2 AND deployment = ?14 AND version = ?15)) ON CONFLICT DO NOTHING";

/// Deletes a run that was inserted for a caller that is gone.
pub(crate) const UNDO_INSERT: &str = "DELETE FROM runs WHERE id = ?1 AND owner = ?2";

pub(crate) const FIND_RUN_OF_KEY: &str = "SELECT id FROM runs WHERE flow = ?1 AND key = ?2";
pub(crate) const FIND_RUN_OF_TICK: &str = sql!(
    "SELECT id FROM runs WHERE flow = ?1 AND logical_date = ?2 AND deployment = ?3 AND ",
    RUN_HAS_TICK
);
pub(crate) const FIND_RUN: &str = "SELECT 1 FROM runs WHERE id = ?1";
pub(crate) const FIND_FINAL_RUN: &str = sql!("SELECT 1 FROM runs WHERE id = ?1 AND ", RUN_FINAL);

macro_rules! head {
    ($output:literal) => {
        concat!(
            "SELECT run, id, flow, kind, key, logical_date, interval_start, interval_end, \
             parameters, refresh, created, state, started, finished, error, ",
            $output,
            ", pruned, takeovers, deaths, cancelling, deployment FROM runs"
        )
    };
}

/// The columns of [`READ_HEADS`] and [`READ_SUMMARIES`], in their order.
#[derive(Clone, Copy, Debug)]
pub(crate) enum HeadColumn {
    Run,
    Id,
    Flow,
    Kind,
    Key,
    LogicalDate,
    IntervalStart,
    IntervalEnd,
    Parameters,
    Refresh,
    Created,
    State,
    Started,
    Finished,
    Error,
    Output,
    Pruned,
    Takeovers,
    Deaths,
    Cancelling,
    Deployment,
}

/// Selects the columns of runs, by [`HeadColumn`]; a condition follows.
pub(crate) const READ_HEADS: &str = head!("output");
/// Selects the same columns without the output, which may be large: lists do not show it.
pub(crate) const READ_SUMMARIES: &str = head!("NULL");

pub(crate) const READ_PLANS: &str = "SELECT number, body FROM plans WHERE run = ?1 ORDER BY number";
/// Selects the [columns of attempts](super::rows::AttemptColumns) after their number.
pub(crate) const READ_ATTEMPTS: &str = "SELECT number, frame, cell, attempt, state, started, \
     took, body FROM attempts WHERE run = ?1 ORDER BY number";

// the changes of a run that its process owns, by `RowChange`
pub(crate) const INSERT_PLAN: &str = "INSERT INTO plans VALUES (?1, ?2, ?3)";
pub(crate) const INSERT_ATTEMPT: &str =
    "INSERT INTO attempts VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
pub(crate) const START_RUN: &str = "UPDATE runs SET state = ?2, started = ?3 WHERE run = ?1";
pub(crate) const CANCEL_RUN: &str = "UPDATE runs SET cancelling = 1 WHERE run = ?1";
pub(crate) const FINISH_RUN: &str =
    "UPDATE runs SET state = ?2, finished = ?3, error = ?4, output = ?5 WHERE run = ?1";
pub(crate) const LEAVE_RUN: &str = "UPDATE runs SET leaving = ?2 WHERE run = ?1";
pub(crate) const RELEASE_RUN: &str = sql!(
    "UPDATE runs SET owner = NULL, deaths = deaths + CASE WHEN ",
    RUN_LEFT_WITH_BODIES,
    " THEN 1 ELSE 0 END, leaving = ?2 WHERE run = ?1",
);
/// Forgets the processes that died with a run.
pub(crate) const RESET_TAKEOVERS: &str = "UPDATE runs SET takeovers = 0 WHERE run = ?1";

// the owners of runs
pub(crate) const IS_OWNED: &str = "SELECT 1 FROM runs WHERE run = ?1 AND owner = ?2";
pub(crate) const FIND_OWNER: &str = sql!("SELECT owner FROM runs WHERE id = ?1 AND ", RUN_OPEN);
/// Releases a run by its id, so that another process can take it over.
pub(crate) const UNDO_TAKEOVER: &str = "UPDATE runs SET owner = NULL WHERE id = ?1 AND owner = ?2";

/// Selects whether a final run is pruned, and its output.
pub(crate) const READ_FINAL_RUN: &str = sql!(
    "SELECT pruned, output FROM runs WHERE run = ?1 AND ",
    RUN_FINAL
);
/// Makes a final run pending, so that it is executed again.
pub(crate) const REOPEN_RUN: &str = "UPDATE runs SET state = ?3, started = 0, finished = 0, \
     error = NULL, output = NULL, owner = ?2, takeovers = 0, cancelling = 0, pruned = 0 \
     WHERE run = ?1";

// the processes that have the store open
pub(crate) const FIND_PROCESS: &str = "SELECT 1 FROM processes WHERE process = ?1 AND lock = ?2";
/// Selects the lock of a process that has neither unfinished runs nor flights.
pub(crate) const FIND_IDLE_PROCESS: &str = sql!(
    "SELECT lock FROM processes WHERE process = ?1 \
     AND NOT EXISTS (SELECT 1 FROM runs WHERE owner = ?1 AND ",
    RUN_OPEN,
    ") AND NOT EXISTS (SELECT 1 FROM flights WHERE owner = ?1)",
);
pub(crate) const DELETE_PROCESS: &str = "DELETE FROM processes WHERE process = ?1";

// what serving processes share
/// Selects the owners of the other runs of a flow that have a slot.
pub(crate) const FIND_TURNS: &str = sql!(
    "SELECT owner FROM runs WHERE flow = ?1 AND ",
    RUN_OPEN,
    " AND state = ?2 AND kind <> ?3 AND id <> ?4 AND owner IS NOT NULL",
);
pub(crate) const CLAIM_TURN: &str = sql!(
    "UPDATE runs SET state = ?2, started = CASE started WHEN 0 THEN ?3 ELSE started END \
     WHERE id = ?1 AND ",
    RUN_OPEN,
);
pub(crate) const RELEASE_TURN: &str = sql!(
    "UPDATE runs SET state = ?3 WHERE id = ?1 AND owner = ?2 AND ",
    RUN_OPEN
);

pub(crate) const REQUEST_CANCEL: &str = sql!(
    "UPDATE runs SET cancelling = 1 WHERE id = ?1 AND ",
    RUN_OPEN
);
pub(crate) const FIND_CANCEL_REQUESTS: &str = sql!(
    "SELECT id FROM runs WHERE owner = ?1 AND ",
    RUN_OPEN,
    " AND cancelling = 1 AND length(id) = 16",
);

pub(crate) const UNPAUSE_FLOW: &str = "DELETE FROM pauses WHERE flow = ?1";
pub(crate) const LIST_PAUSED: &str = "SELECT flow, since FROM pauses ORDER BY flow";

// cached results, and the flights of processes that compute them
/// Selects a cached result. The indexes contain the first eight bytes of the hashes.
pub(crate) const FIND_RESULT: &str = "SELECT run, created, body FROM cache \
     WHERE substr(inputs, 1, 8) = ?1 AND substr(key, 1, 8) = ?2 AND key = ?3";
pub(crate) const FIND_RESULT_OF_TASK: &str = "SELECT 1 FROM cache WHERE task = ?1 LIMIT 1";
pub(crate) const FIND_RESULT_OF_INPUTS: &str =
    "SELECT 1 FROM cache WHERE substr(inputs, 1, 8) = ?1 AND inputs = ?2 AND task = ?3";
pub(crate) const FIND_EXPIRED_RESULTS: &str =
    "SELECT entry, created FROM cache WHERE expires <= ?1";
/// Selects the body of a cached result, unless it was replaced by a later one.
pub(crate) const READ_RESULT: &str = "SELECT body FROM cache WHERE entry = ?1 AND created = ?2";
pub(crate) const DELETE_RESULT: &str = "DELETE FROM cache WHERE entry = ?1";
pub(crate) const FIND_FLIGHT: &str = "SELECT owner FROM flights WHERE key = ?1";
pub(crate) const TAKE_OVER_FLIGHT: &str = "UPDATE flights SET owner = ?2 WHERE key = ?1";
pub(crate) const END_FLIGHT: &str = "DELETE FROM flights WHERE key = ?1 AND owner = ?2";
pub(crate) const END_FLIGHTS: &str = "DELETE FROM flights WHERE owner = ?1";

// pruning: `pruned` is 0 for a whole run, 2 while its rows are deleted, and 1 after that
pub(crate) const BEGIN_PRUNING: &str = "UPDATE runs SET pruned = 2 WHERE run = ?1";
pub(crate) const END_PRUNING: &str = "UPDATE runs SET pruned = 1 WHERE run = ?1";
/// Finds a run of which at least a part was pruned.
pub(crate) const IS_PRUNED: &str = sql!(
    "SELECT 1 FROM runs WHERE run = ?1 AND ",
    RUN_FINAL,
    " AND pruned <> 0"
);
/// Selects the bodies of the first attempts of a run that are as long as references to blobs.
pub(crate) const FIND_BLOBS: &str = sql!(
    "SELECT body FROM attempts WHERE run = ?1 AND number <= ?2 AND ",
    ATTEMPT_SUCCEEDED,
    " AND length(body) BETWEEN ?3 AND ?4",
);
pub(crate) const DELETE_ATTEMPTS: &str = "DELETE FROM attempts WHERE run = ?1 AND number <= ?2";
pub(crate) const DELETE_PLANS: &str = "DELETE FROM plans WHERE run = ?1";
pub(crate) const FIND_GARBAGE: &str = "SELECT blob FROM garbage LIMIT ?1";
pub(crate) const FORGET_GARBAGE: &str = "DELETE FROM garbage WHERE blob = ?1";

// log lines
/// Selects a run's row and the number of its last line, unless the run is pruned.
pub(crate) const FIND_LAST_LINE: &str = "SELECT run, \
     (SELECT coalesce(max(number), 0) FROM logs WHERE logs.run = runs.run) \
     FROM runs WHERE id = ?1 AND pruned = 0";
pub(crate) const INSERT_LINE: &str =
    "INSERT INTO logs VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)";

// inspection
/// Selects the ids from the first to the last, both included. All ids that were written have 16
/// bytes; others are damage.
pub(crate) const FIND_IDS: &str =
    "SELECT id FROM runs WHERE id BETWEEN ?1 AND ?2 AND length(id) = 16 ORDER BY id";
pub(crate) const FIND_NEXT_RUN: &str =
    "SELECT run, id FROM runs WHERE run > ?1 ORDER BY run LIMIT 1";

/// The counts of a check, by the names that users know.
pub(crate) const COUNTS: [(&str, &str); 8] = [
    ("runs", "SELECT count(*) FROM runs"),
    (
        "unfinished_runs",
        sql!("SELECT count(*) FROM runs WHERE ", RUN_OPEN),
    ),
    ("attempts", "SELECT count(*) FROM attempts"),
    ("cached_results", "SELECT count(*) FROM cache"),
    ("deployments", "SELECT count(*) FROM deployments"),
    ("paused_flows", "SELECT count(*) FROM pauses"),
    (
        "vault_entries",
        "SELECT count(*) FROM vault WHERE bytes IS NOT NULL",
    ),
    ("processes", "SELECT count(*) FROM processes"),
];
