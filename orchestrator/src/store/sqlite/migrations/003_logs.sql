CREATE TABLE logs (
  -- What the tasks of runs, and the runs themselves, said.
  run INTEGER NOT NULL,
  number INTEGER NOT NULL, -- the order in which the run's lines were stored, from 1
  at INTEGER NOT NULL,
  level INTEGER NOT NULL,  -- 0 trace, 1 debug, 2 info, 3 warn, 4 error
  task TEXT,               -- the node's key, with the element's index; NULL: the run itself
  attempt INTEGER,         -- from 1
  map_index INTEGER,       -- from 0
  target TEXT NOT NULL,
  message TEXT NOT NULL,
  fields TEXT,             -- JSON, an object; NULL: none
  PRIMARY KEY (run, number)
) STRICT, WITHOUT ROWID;
