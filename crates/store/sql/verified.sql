-- Drills and tests that have passed last.
-- $1 subject or null for all. Rows: subject, run_id, verified_at, fingerprint.
-- Index: verified_pkey. Locks: none.
select subject, run_id, verified_at, fingerprint from recovery.verified where $1::text is null or subject = $1 order by subject
