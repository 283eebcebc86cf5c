-- Makes a bearer token.
-- $1 name, $2 role, $3 sha256 bytea, $4 by whom. One row if the name was free, none else.
-- Index: api_tokens_pkey. Locks: none.
insert into recovery.api_tokens (name, role, token_sha256, created_by, created_at)
values ($1, $2, $3, $4, engine.now())
on conflict do nothing
returning name
