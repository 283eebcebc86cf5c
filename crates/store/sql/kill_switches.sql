-- Kill switches that are on. No parameters. Rows: scope, by, reason, since. Index: kill_switches_pkey. Locks: none.
select scope, by, reason, since from recovery.kill_switches order by scope
