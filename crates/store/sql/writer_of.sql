-- Who wrote an event, to tell our own repeated turn from somebody else's.
-- $1 run uuid, $2 seq int. One row or none: worker_id, lease_epoch, turn.
-- Index: primary key of the run's partition. Locks: none.
select worker_id, lease_epoch, turn from engine.events where run_id = $1 and seq = $2
