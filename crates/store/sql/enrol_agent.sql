-- Uses an enrolment token up and registers its agent, in one statement.
-- $1 sha256 of the token bytea, $2 name, $3 worker uuid, $4 sha256 of the certificate bytea, $5 build.
-- One row if the token held, none else. A taken name is an error (23505) that leaves the token as it was.
-- Index: enrolment_tokens_pkey, agents_pkey. Locks: the token row.
with used as (
    update recovery.enrolment_tokens set used_at = engine.now(), used_by = $2
    where token_sha256 = $1 and used_at is null and expires_at > engine.now()
    returning site
)
insert into recovery.agents (name, site, worker_id, certificate_sha256, build, enrolled_at)
select $2, site, $3, $4, $5, engine.now() from used
returning site
