CREATE TABLE cache_in_order (
  -- Results that other runs may use, each beside those of the same commit, so that it stands on few pages.
  entry INTEGER PRIMARY KEY,
  key BLOB NOT NULL,     -- hash of the task, its code and its inputs
  task TEXT NOT NULL,
  inputs BLOB NOT NULL,  -- hash of the inputs alone: says whether inputs or code changed
  run BLOB NOT NULL,     -- the id of the run that made it
  created INTEGER NOT NULL,
  expires INTEGER,       -- NULL: never
  size INTEGER NOT NULL, -- bytes, those of a blob included
  body BLOB NOT NULL     -- the result, as in `attempts`
) STRICT;
INSERT INTO cache_in_order (key, task, inputs, run, created, expires, size, body)
  SELECT key, task, inputs, run, created, expires, size, body FROM cache;
DROP INDEX cache_by_inputs;
DROP TABLE cache;
ALTER TABLE cache_in_order RENAME TO cache;

-- Hashes stand in no order: the shorter an index of them, the fewer pages a commit writes. One is for both questions:
-- whether a key is there, which has its inputs in it, and whether anything is there of these inputs.
CREATE UNIQUE INDEX cache_by_hash ON cache (substr(inputs, 1, 8), substr(key, 1, 8));

CREATE INDEX cache_by_task ON cache (task);
