CREATE TABLE vault (
  -- Connections, variables and secrets. The row of a removed one stays, so that no version is used twice.
  kind INTEGER NOT NULL,    -- 0: connection, 1: variable, 2: secret
  name TEXT NOT NULL,
  version INTEGER NOT NULL, -- grows when a value is set
  key BLOB,                 -- id of the key that it is sealed with; NULL: a plain text, or removed
  bytes BLOB,               -- NULL: removed
  set_at INTEGER NOT NULL,
  PRIMARY KEY (kind, name),
  CHECK (key IS NOT NULL OR bytes IS NULL OR kind = 1)
) STRICT, WITHOUT ROWID;
