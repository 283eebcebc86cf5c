-- Grants lock requests whose resources are all free, oldest first; each grant raises the epoch of its resources.
-- $1 limit int. One row: how many.
-- Index: lock_requests_pkey, locks_pkey. Locks: the requests, skipping locked ones, then the locks by name.
select engine.grant_locks($1)
