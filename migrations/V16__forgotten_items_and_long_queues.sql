-- Items that are forgotten, and queues that are long.
--
-- Of an item that is forgotten the row goes, and with it what sites and drills have said of it. Histories stay.

create or replace function recovery.project_item(p_run uuid, p_seq int, p_fact json) returns void
language plpgsql volatile as $$
declare
    v_item   text  := p_fact ->> 'item';
    v_record jsonb := (p_fact -> 'record')::jsonb;
    v_fact   json  := p_fact -> 'fact';
begin
    if v_fact ->> 'fact' = 'forgotten' then
        delete from recovery.items where name = v_item;
        delete from recovery.points where item = v_item;
        delete from recovery.replication where item = v_item;
        delete from recovery.machines where item = v_item;
        delete from recovery.verified where subject = 'item:' || v_item;
        delete from recovery.readiness where subject = 'item:' || v_item;
        return;
    end if;
    insert into recovery.items (name, record, version, last_run, last_seq, updated_at)
    values (v_item, v_record, 1, p_run, p_seq, engine.now())
    on conflict (name) do update
    set record = excluded.record, version = items.version + 1, last_run = excluded.last_run, last_seq = excluded.last_seq,
        updated_at = excluded.updated_at;
    if v_fact ->> 'fact' = 'points_withdrawn' then
        update recovery.points set withdrawn = true
        where item = v_item and point <= (v_fact ->> 'up_to')::bigint and not withdrawn
          and site = case v_record -> 'state' ->> 'direction'
                         when 'forward' then v_record ->> 'recovery' else v_record ->> 'primary' end;
    end if;
end $$;

-- Claims read the head of each queue in its order and stop when they have enough; before, all that was due was sorted for each claim.

create index tasks_in_order on engine.tasks (queue, not_before, run_id, seq) where state <> 'dead';
drop index engine.tasks_by_queue;

create or replace function engine.claim_tasks(p_worker uuid, p_epoch bigint, p_queues text[], p_limit int) returns setof engine.tasks
language plpgsql volatile as $$
declare
    v_now timestamptz;
begin
    perform engine.fence(p_worker, p_epoch);
    v_now := engine.now();
    return query
        with free as materialized (
            select head.run_id, head.seq
            from (select distinct unnest(p_queues)) as q (queue)
            -- What is claimed was due when that happened: the bound holds for it as well.
            cross join lateral (
                select t.run_id, t.seq, t.not_before from engine.tasks t
                where t.queue = q.queue and t.state <> 'dead' and t.not_before <= v_now and t.attempt < t.max_attempts
                  and (t.state = 'queued' and (not t.cancel_requested or t.in_doubt)
                       or t.state = 'claimed' and engine.attempt_is_over(t, v_now))
                order by t.not_before, t.run_id, t.seq limit p_limit for update skip locked
            ) head
            order by head.not_before, head.run_id, head.seq limit p_limit
        )
        update engine.tasks t
        set in_doubt = t.in_doubt or t.state = 'claimed', state = 'claimed', attempt = t.attempt + 1, worker_id = p_worker,
            lease_epoch = p_epoch, attempt_deadline = v_now + t.start_to_close, heartbeat_at = v_now, heartbeat_detail = null
        from free where t.run_id = free.run_id and t.seq = free.seq
        returning t.*;
end $$;
