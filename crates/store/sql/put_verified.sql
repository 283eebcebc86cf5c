-- Notes that a drill or a test has passed, unless a later one is noted.
-- $1 subject, $2 run uuid, $3 ended timestamptz, $4 fingerprint jsonb. No rows.
-- Index: verified_pkey. Locks: that row.
insert into recovery.verified (subject, run_id, verified_at, fingerprint) values ($1, $2, $3, $4)
on conflict (subject) do update
set run_id = excluded.run_id, verified_at = excluded.verified_at, fingerprint = excluded.fingerprint
where verified.verified_at < excluded.verified_at
