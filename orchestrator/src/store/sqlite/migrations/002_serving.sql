CREATE TABLE schedules (
  -- How far each served schedule has come: what lies between there and now was missed.
  flow TEXT NOT NULL,
  schedule TEXT NOT NULL,   -- as people read it: with its zone, and with the parameters of its runs
  decided INTEGER NOT NULL, -- each tick up to here has its run, or was decided to have none
  PRIMARY KEY (flow, schedule)
) STRICT, WITHOUT ROWID;

CREATE TABLE pauses (
  -- The flows whose schedules are paused.
  flow TEXT PRIMARY KEY,
  since INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- the runs of a flow that are under way, or wait for their turn
CREATE INDEX runs_active ON runs (flow) WHERE state < 2;
