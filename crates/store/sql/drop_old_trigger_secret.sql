-- Drops all secrets of a source but the newest.
-- $1 source. Rows: those that were dropped, their numbers.
-- Index: trigger_secrets_pkey. Locks: those rows.
delete from recovery.trigger_secrets
where source = $1 and number < (select max(number) from recovery.trigger_secrets where source = $1)
returning number
