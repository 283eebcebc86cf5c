-- For which site an enrolment token holds, if it does.
-- $1 sha256 bytea. One row or none: site.
-- Index: enrolment_tokens_pkey. Locks: none.
select site from recovery.enrolment_tokens where token_sha256 = $1 and used_at is null and expires_at > (select engine.now())
