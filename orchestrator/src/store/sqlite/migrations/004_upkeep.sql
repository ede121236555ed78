-- what is to be pruned: of the runs that are kept for ever, few
CREATE INDEX runs_to_prune ON runs (finished) WHERE state >= 2 AND pruned <> 1;
