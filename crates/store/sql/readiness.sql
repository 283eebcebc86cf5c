-- How subjects stand, as judged last.
-- $1 subject or null for all. Rows: the row's columns.
-- Index: readiness_pkey. Locks: none.
select subject, severity, counts, findings, since, changed_at, judged_at from recovery.readiness
where $1::text is null or subject = $1 order by subject
