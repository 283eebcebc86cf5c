-- Keeps how a subject stands. Times of change stay as they are while nothing changes.
-- $1 subject, $2 severity, $3 counts jsonb, $4 marks text[], $5 findings jsonb. No rows.
-- Index: readiness_pkey. Locks: that row.
insert into recovery.readiness as r (subject, severity, counts, marks, findings, since, changed_at, judged_at)
values ($1, $2, $3, $4, $5, engine.now(), engine.now(), engine.now())
on conflict (subject) do update
set severity = excluded.severity, counts = excluded.counts, marks = excluded.marks, findings = excluded.findings, judged_at = excluded.judged_at,
    since = case when r.severity = excluded.severity then r.since else excluded.since end,
    changed_at = case when r.marks = excluded.marks then r.changed_at else excluded.changed_at end
