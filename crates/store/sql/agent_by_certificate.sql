-- Whose certificate this is.
-- $1 sha256 bytea. One row or none: name, site, worker_id.
-- Index: agents_certificate_sha256_key. Locks: none.
select name, site, worker_id from recovery.agents where certificate_sha256 = $1
