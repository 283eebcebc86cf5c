-- Makes a one-time enrolment token.
-- $1 sha256 bytea, $2 site, $3 by whom, $4 life in seconds float8. One row: expires_at.
-- Index: enrolment_tokens_pkey. Locks: none.
insert into recovery.enrolment_tokens (token_sha256, site, created_by, created_at, expires_at)
values ($1, $2, $3, engine.now(), engine.now() + make_interval(secs => $4))
returning expires_at
