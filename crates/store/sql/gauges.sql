-- Figures for monitoring; few and of low cardinality.
-- No parameters. Rows: name, label, value float8.
-- Index: none; open work only, closed runs by an index-only scan at best. Locks: none.
select 'runs' as name, state as label, count(*)::float8 as value from engine.runs where state in ('open', 'suspended') group by state
union all select 'leases', '', count(*) from engine.leases
union all select 'inbox', '', count(*) from engine.inbox
union all select 'timers', '', count(*) from engine.timers
union all select 'lock_requests', '', count(*) from engine.lock_requests
union all select 'mxid_age', '', mxid_age(datminmxid)::float8 from pg_database where datname = current_database()
union all select 'items', record -> 'state' -> 'main' ->> 'is', count(*) from recovery.items group by 2
