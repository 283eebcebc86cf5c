-- Whose bearer token this is.
-- $1 sha256 bytea. One row or none: name, role.
-- Index: api_tokens_token_sha256_key. Locks: none.
select name, role from recovery.api_tokens where token_sha256 = $1
