-- A slice of what a witness has seen, compared with what is here; see the function.
-- $1 witness uuid, $2 notes json: runs, messages, effects; $3 whether it is the last slice. One row: how much of it is not here.
-- Index: primary keys. Locks: the row of the store, runs that lack something, then the leases of their owners.
select engine.testify($1, $2, $3) as found
