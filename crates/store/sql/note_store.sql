-- Notes whose database this is, at its first migration; era 1 begins.
-- No parameters, no rows. Index: store_pkey. Locks: the inserted row.
insert into engine.store (era, system_identifier, timeline)
select 1, system_identifier::text, substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8) from pg_control_system()
on conflict do nothing
