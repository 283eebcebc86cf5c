-- A run's events in order.
-- $1 run uuid. Rows: seq, body, hash.
-- Index: primary key of the run's partition. Locks: none.
select seq, body, hash from engine.events where run_id = $1 order by seq
