-- Puts a message into the inbox of an open or suspended run; a key that waits already is not added again.
-- $1 run uuid, $2 key, $3 message json. One row: accepted | closed | no_such_run.
-- Index: runs_pkey, inbox_pkey. Locks: the run row, shared, so that it is not closed in between.
select engine.send($1, $2, $3)
