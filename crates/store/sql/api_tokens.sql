-- Bearer tokens, without what they are known by.
-- No parameters. Rows: name, role, created_by, created_at.
-- Index: api_tokens_pkey. Locks: none.
select name, role, created_by, created_at from recovery.api_tokens order by name
