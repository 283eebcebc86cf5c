-- Who has a bearer token, by name.
-- No parameters. Rows: name, role.
-- Index: none; few rows. Locks: none.
select name, role from recovery.api_tokens order by name
