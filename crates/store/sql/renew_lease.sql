-- The heartbeat. No row means fenced: the lease was deleted.
-- $1 worker uuid, $2 epoch bigint, $3 ttl in seconds float8. One row or none.
-- Index: leases_pkey. Locks: the lease row, no key update: does not wait for a batch in flight.
update engine.leases set expires_at = engine.now() + make_interval(secs => $3)
where worker_id = $1 and epoch = $2
returning epoch
