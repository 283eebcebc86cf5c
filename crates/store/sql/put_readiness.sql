-- Keeps how subjects stand, many at once. Times of change stay as they are while nothing changes.
-- $1 json array of {subject, severity, counts, marks, findings}, each subject once. No rows.
-- Index: readiness_pkey. Locks: those rows, in the order of their subjects, which all servers have.
insert into recovery.readiness as r (subject, severity, counts, marks, findings, since, changed_at, judged_at)
select subject, severity, counts, marks, findings, engine.now(), engine.now(), engine.now()
from json_to_recordset($1) as g (subject text, severity text, counts jsonb, marks text[], findings jsonb)
order by subject
on conflict (subject) do update
set severity = excluded.severity, counts = excluded.counts, marks = excluded.marks, findings = excluded.findings, judged_at = excluded.judged_at,
    since = case when r.severity = excluded.severity then r.since else excluded.since end,
    changed_at = case when r.marks = excluded.marks then r.changed_at else excluded.changed_at end
