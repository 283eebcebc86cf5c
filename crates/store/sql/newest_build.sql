-- The build that runs which nobody has claimed are for.
-- No parameters. At most one row: build.
-- Index: builds_pkey; there are as many as were ever rolled out. Locks: none.
select build from engine.builds order by ordinal desc limit 1
