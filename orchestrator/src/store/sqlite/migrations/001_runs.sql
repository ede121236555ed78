-- Times are microseconds since 1970-01-01T00:00:00Z. Comments stand inside the statements: SQLite keeps them, so
-- `.schema` shows them.

CREATE TABLE processes (
  -- The processes that may own runs. One is alive as long as it holds the lock on its lock file; the rows of dead ones
  -- go when nothing names them any more.
  process INTEGER PRIMARY KEY AUTOINCREMENT, -- a number is never given twice
  lock TEXT NOT NULL,                        -- the name of its lock file, in the folder `<this file>-owners`
  pid INTEGER NOT NULL,                      -- for people: by itself it says nothing about being alive
  started INTEGER NOT NULL
) STRICT;

CREATE TABLE runs (
  -- One row for each run, kept for ever: keys, ticks and backfills are unique by it.
  run INTEGER PRIMARY KEY AUTOINCREMENT, -- the order in which runs were accepted
  id BLOB NOT NULL UNIQUE,               -- the id that people see: the 16 bytes of a UUID
  flow TEXT NOT NULL,
  kind INTEGER NOT NULL,                 -- 0 by hand, 1 scheduled, 2 backfill
  key TEXT,                              -- one run for each flow and key
  logical_date INTEGER NOT NULL,         -- the instant that the run is for
  interval_start INTEGER NOT NULL,       -- the span of time that the run is for: from here
  interval_end INTEGER NOT NULL,         -- to here, this instant not included
  parameters TEXT NOT NULL,              -- JSON
  refresh INTEGER NOT NULL,              -- 1: cached results are not used, but made anew
  created INTEGER NOT NULL,
  state INTEGER NOT NULL,                -- 0 pending, 1 running, 2 success, 3 failed, 4 cancelled
  started INTEGER NOT NULL,              -- 0: not yet
  finished INTEGER NOT NULL,             -- 0: not yet
  error BLOB,                            -- why it failed; MessagePack
  output BLOB,                           -- what the flow returned, as the body of a row of `attempts`
  owner INTEGER,                         -- the process that executes it; NULL: it was left by a clean stop
  takeovers INTEGER NOT NULL,            -- in a row, in which no node's end was committed
  cancelling INTEGER NOT NULL,           -- 1: its cancellation was asked for
  pruned INTEGER NOT NULL                -- its plans and attempts were deleted by age: 2 some of them, 1 all
) STRICT;

CREATE UNIQUE INDEX runs_by_key ON runs (flow, key) WHERE key IS NOT NULL;

-- one scheduled run for each tick, however many processes serve; a backfill's run of a tick is that tick's run
CREATE UNIQUE INDEX runs_by_tick ON runs (flow, logical_date) WHERE kind <> 0;

-- within a flow by `run`, which SQLite appends to each key of an index
CREATE INDEX runs_by_flow ON runs (flow);

CREATE INDEX runs_unfinished ON runs (owner) WHERE state < 2;

CREATE TABLE plans (
  -- What a run's body planned, a batch a row: nodes with their wiring, the lengths of mappings, what the body was told.
  run INTEGER NOT NULL,
  number INTEGER NOT NULL, -- the order of commits within the run, shared with its attempts
  body BLOB NOT NULL,      -- a byte that says what it is, then MessagePack
  PRIMARY KEY (run, number)
) STRICT, WITHOUT ROWID;

CREATE TABLE attempts (
  -- What became of nodes: a row for each state that one went over into. A node's last row is what holds.
  run INTEGER NOT NULL,
  number INTEGER NOT NULL,  -- the order of commits within the run
  frame INTEGER NOT NULL,   -- the mapping whose element it is; 0: the flow itself
  cell INTEGER NOT NULL,    -- the node's place among those of its mapping, times the elements, and the element's index
  attempt INTEGER NOT NULL, -- from 1; 0: no body ran
  state INTEGER NOT NULL,   -- 0 pending, 1 running, 2 retrying, 3 success, 4 failed, 5 skipped, 6 upstream failed,
                            -- 7 cancelled
  started INTEGER NOT NULL, -- 0: no body ran
  took INTEGER NOT NULL,    -- microseconds from there to its end; of one that is retrying, to its next attempt
  body BLOB,                -- flags (1: a note of the cache comes first, 2: a reference to a blob follows), then the
                            -- result or the error; MessagePack
  PRIMARY KEY (run, number)
) STRICT, WITHOUT ROWID;

CREATE TABLE cache (
  -- Results that other runs may use.
  key BLOB PRIMARY KEY,  -- hash of the task, its code and its inputs
  task TEXT NOT NULL,
  inputs BLOB NOT NULL,  -- hash of the inputs alone: says whether inputs or code changed
  run BLOB NOT NULL,     -- the id of the run that made it
  created INTEGER NOT NULL,
  expires INTEGER,       -- NULL: never
  size INTEGER NOT NULL, -- bytes, those of a blob included
  body BLOB NOT NULL     -- the result, as in `attempts`
) STRICT, WITHOUT ROWID;

CREATE INDEX cache_by_inputs ON cache (task, inputs);

CREATE TABLE garbage (
  -- Blobs whose row is gone, until they are removed.
  blob BLOB PRIMARY KEY -- as rows refer to it
) STRICT, WITHOUT ROWID;

CREATE TABLE flights (
  -- Which process is making which result of the cache right now; those who want the same wait for it.
  key BLOB PRIMARY KEY,
  owner INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
