-- Forgets subjects of a kind that are none any more.
-- $1 prefix such as 'item:', $2 subjects text[] that are. No rows.
-- Index: none; all rows are read, each is looked for once. Locks: the rows that go.
delete from recovery.readiness r
where starts_with(r.subject, $1) and not exists (select from unnest($2::text[]) as s (subject) where s.subject = r.subject)
