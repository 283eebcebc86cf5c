-- Removes a source with its secrets, deliveries and alerts, unless a policy listens to it.
-- $1 name. One row if it was removed.
-- Index: primary keys, trigger_listeners_by_source. Locks: the source's row and all that belongs to it.
delete from recovery.trigger_sources s
where s.name = $1 and not exists (select from recovery.trigger_listeners l where l.source = s.name)
returning s.name
