CREATE TABLE deployments (
  -- What is in force: the schedules of each deployment as they were served, and how far their ticks are decided.
  flow TEXT NOT NULL,
  deployment TEXT NOT NULL, -- '': the flow's unnamed schedules
  version INTEGER NOT NULL, -- grows when other schedules come into force; runs of ticks are created under it alone
  decided INTEGER NOT NULL, -- each tick up to here has its run, or was decided to have none
  segments TEXT NOT NULL,   -- JSON: what was in force from when until when, with parameters; the last one still is
  PRIMARY KEY (flow, deployment)
) STRICT, WITHOUT ROWID;

-- earlier versions kept a text for each schedule that was ever served, and not which of them was in force last
INSERT INTO deployments (flow, deployment, version, decided, segments)
  SELECT flow, '', 0, max(decided), json_object('texts', json_group_array(json_array(schedule, decided)))
  FROM schedules GROUP BY flow;
DROP TABLE schedules;

-- '': the default deployment, or the run belongs to none
ALTER TABLE runs ADD COLUMN deployment TEXT NOT NULL DEFAULT '';

-- one scheduled run for each tick of a deployment, however many processes serve; a backfill's run of a tick is that
-- tick's run
DROP INDEX runs_by_tick;
CREATE UNIQUE INDEX runs_by_tick ON runs (flow, logical_date, deployment) WHERE kind <> 0;
