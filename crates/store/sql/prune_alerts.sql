-- Forgets incidents that nobody has said anything of for long, and the oldest resolved ones of a source that makes too many.
-- $1 days, $2 most resolved of one source. Rows: none.
-- Index: trigger_alerts_by_age for the first, all rows for the second. Locks: rows that go, unless locked.
with ends as (
    delete from recovery.trigger_ends where last_received_at < engine.now() - make_interval(days => $1)
), placed as (
    select id, row_number() over (partition by source order by last_received_at desc, id desc) as place
    from recovery.trigger_alerts where status = 'resolved'
)
delete from recovery.trigger_alerts where id in (
    select a.id from recovery.trigger_alerts a left join placed p using (id)
    where a.last_received_at < engine.now() - make_interval(days => $1) or p.place > $2
    for update of a skip locked)
