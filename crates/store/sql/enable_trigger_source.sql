-- Lets a source's deliveries count, or not.
-- $1 name, $2 whether. One row if there is such a source.
-- Index: trigger_sources_pkey. Locks: that row; waits for deliveries that are being taken.
update recovery.trigger_sources set enabled = $2 where name = $1 returning name
