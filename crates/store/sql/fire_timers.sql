-- Moves due timers into inboxes, in one statement; a run that has several hears of them in the order in which they were due.
-- $1 limit bigint. One row: how many.
-- Index: timers_due. Locks: the timer rows, skipping locked ones.
with due as materialized (
    select run_id, seq from engine.timers where due_at <= (select engine.now())
    order by due_at, run_id, seq limit $1 for update skip locked
), fired as (
    delete from engine.timers t using due where t.run_id = due.run_id and t.seq = due.seq returning t.run_id, t.seq, t.due_at
), told as (
    insert into engine.inbox (run_id, msg_key, body)
    select run_id, 'timer:' || seq, json_build_object('message', 'timer_due', 'of', seq) from fired order by due_at, run_id, seq
    returning id
)
select count(*) from told
