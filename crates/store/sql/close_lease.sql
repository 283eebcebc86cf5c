-- Gives a lease back at a clean stop.
-- $1 worker uuid, $2 epoch bigint. No rows.
-- Index: leases_pkey. Locks: the lease row; waits for a batch in flight.
delete from engine.leases where worker_id = $1 and epoch = $2
