-- how many processes ended while bodies of the run may have been running, in all of its life, or gave it up then;
-- `takeovers` counts only crashes, and only those since a node last came to an end
ALTER TABLE runs ADD COLUMN deaths INTEGER NOT NULL DEFAULT 0;

-- 1: its process was asked to stop, so that its end is no crash; 2: and bodies of the run have not returned
ALTER TABLE runs ADD COLUMN leaving INTEGER NOT NULL DEFAULT 0;
