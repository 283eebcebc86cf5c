-- Ends tasks without anybody's report: cancelled before they began (or while nobody looks, if they only look), past their queue or total limit, past their last attempt, or
-- begun by somebody who fell silent and taken over by nobody within the queue limit. Those of held runs wait with them.
-- $1 limit bigint. One row: how many.
-- Index: none that fits all four; the table holds open work only. Locks: the task rows, skipping locked ones.
with clock as materialized (
    select engine.now() as at
), over as materialized (
    select t.run_id, t.seq, judged.ending
    from engine.tasks t cross join clock cross join lateral (
        select case when t.state <> 'claimed' and t.cancel_requested and not t.in_doubt then 'cancelled'
                    when t.cancel_requested and t.scope = 'read' and t.state <> 'dead'
                        and (t.state = 'queued' or engine.attempt_is_over(t, clock.at)) then 'cancelled'
                    when t.attempt = 0 and t.state <> 'dead' and t.queue_deadline < clock.at then 'queue'
                    when t.total_deadline < clock.at then 'total'
                    when t.state = 'claimed' and t.attempt >= t.max_attempts and engine.attempt_is_over(t, clock.at)
                        then case when t.heartbeat_at + t.heartbeat_timeout < clock.at then 'heartbeat' else 'start_to_close' end
                    when t.attempt > 0 and t.state <> 'dead' and (t.state = 'queued' or engine.attempt_is_over(t, clock.at))
                        and greatest(t.not_before, t.heartbeat_at)
                            + (t.options #>> '{timeouts,queue_ms}')::float8 * interval '1 ms' < clock.at then 'heartbeat'
               end as ending
    ) judged
    where judged.ending is not null and not exists (select from engine.held h where h.run_id = t.run_id)
    order by t.run_id, t.seq limit $1 for update of t skip locked
), ended as (
    delete from engine.tasks t using over where t.run_id = over.run_id and t.seq = over.seq
    returning t.run_id, t.seq, t.attempt, over.ending
), told as (
    insert into engine.inbox (run_id, msg_key, body)
    select run_id, 'task:' || seq, json_build_object('message', 'finished', 'of', seq, 'outcome',
               case when ending = 'cancelled' then json_build_object('outcome', 'cancelled')
                    else json_build_object('outcome', 'timed_out', 'kind', ending, 'attempts', attempt) end)
    from ended order by run_id, seq
    returning id
)
select count(*) from told
