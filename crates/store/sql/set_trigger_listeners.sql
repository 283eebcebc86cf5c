-- Makes a policy listen to these sources and no others; wakes of sources that it leaves go.
-- $1 policy, $2 sources text[]. Rows: the sources that exist, which it listens to now.
-- Index: primary keys. Locks: the policy's rows.
with gone as (
    delete from recovery.trigger_listeners where policy = $1 and source <> all ($2)
), unheard as (
    delete from recovery.trigger_wakes where policy = $1 and source <> all ($2)
)
insert into recovery.trigger_listeners as l (policy, source)
select $1, s.name from recovery.trigger_sources s where s.name = any ($2) order by s.name
on conflict (policy, source) do update set policy = l.policy
returning source
