-- Makes a server known that was started anew, if all witnesses that are awaited have testified or their time is up.
-- No parameters. One row: known | waiting | checked.
-- Index: store_pkey. Locks: the row of the store; leases, when it becomes known.
select engine.conclude_check() as state
