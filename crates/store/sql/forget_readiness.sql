-- Forgets subjects of a kind that are none any more.
-- $1 prefix such as 'item:', $2 subjects text[] that are. No rows.
-- Index: none; few rows. Locks: the rows that go.
delete from recovery.readiness where starts_with(subject, $1) and subject <> all ($2)
