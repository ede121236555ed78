//! Statements that are the same in any SQL database, with parameters `?1` and so on.
//!
//! Statements that need a database's own words, such as hints, scalar functions and upserts, are in
//! the folder of its store.

use super::codes::sql;

/// Inserts a pending run, unless one with its key, its tick or its id exists, or it is scheduled
/// and its flow is paused.
///
/// The conditions are part of the `INSERT`: two processes cannot both create the run of a tick.
pub(crate) const INSERT_RUN: &str = "INSERT INTO runs \
     (id, flow, kind, key, logical_date, interval_start, interval_end, parameters, refresh, \
     created, state, started, finished, owner, takeovers, cancelling, pruned) \
     SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?12, 0, 0, ?11, 0, 0, 0 \
     WHERE ?3 <> ?13 OR NOT EXISTS (SELECT 1 FROM pauses WHERE flow = ?2) ON CONFLICT DO NOTHING";

/// Deletes a run that was inserted for a caller that is gone.
pub(crate) const UNDO_INSERT: &str = "DELETE FROM runs WHERE id = ?1 AND owner = ?2";

pub(crate) const FIND_RUN_OF_KEY: &str = "SELECT id FROM runs WHERE flow = ?1 AND key = ?2";
pub(crate) const FIND_RUN_OF_TICK: &str = sql!(
    "SELECT id FROM runs WHERE flow = ?1 AND logical_date = ?2 AND ",
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
            ", pruned, takeovers, deaths, cancelling FROM runs"
        )
    };
}

/// Selects the columns of runs; a condition follows.
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

pub(crate) const IS_OWNED: &str = "SELECT 1 FROM runs WHERE run = ?1 AND owner = ?2";
pub(crate) const FIND_OWNER: &str = sql!("SELECT owner FROM runs WHERE id = ?1 AND ", RUN_OPEN);
/// Releases a run by its id, so that another process can take it over.
pub(crate) const UNDO_TAKEOVER: &str = "UPDATE runs SET owner = NULL WHERE id = ?1 AND owner = ?2";

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

/// The counts of a check, by the names that users know.
pub(crate) const COUNTS: [(&str, &str); 7] = [
    ("runs", "SELECT count(*) FROM runs"),
    (
        "unfinished_runs",
        sql!("SELECT count(*) FROM runs WHERE ", RUN_OPEN),
    ),
    ("attempts", "SELECT count(*) FROM attempts"),
    ("cached_results", "SELECT count(*) FROM cache"),
    ("schedules", "SELECT count(*) FROM schedules"),
    ("paused_flows", "SELECT count(*) FROM pauses"),
    ("processes", "SELECT count(*) FROM processes"),
];
