-- Makes a site known.
-- $1 name. No rows. Index: sites_pkey. Locks: none.
insert into recovery.sites (name, created_at) values ($1, engine.now()) on conflict do nothing
