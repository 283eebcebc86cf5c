-- Opens a lease with an epoch that was never used.
-- $1 worker uuid, $2 ttl in seconds float8. One row: epoch.
-- Index: leases_pkey. Locks: none that others wait for.
insert into engine.leases (worker_id, epoch, expires_at)
values ($1, nextval('engine.lease_epochs'), engine.now() + make_interval(secs => $2))
returning epoch
