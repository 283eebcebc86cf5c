-- Words of parents to children and of children to parents: signals that are stored with the turn that sends them.
--
-- Rules: 1. Rows of runs are still locked first, all of a family at once and in the order of their ids; who is told something is one
-- of them. 2. Who has ended, or was never started, hears nothing.

create function engine.kin_told(p_told json) returns table (run_id uuid, msg_key text, body json)
language sql stable as $$
    select r.run_id, t.key, t.body
    from json_to_recordset(p_told) as t (run uuid, of int, key text, body json)
    join engine.runs r on r.parent_run = t.run and r.parent_seq = t.of
    where t.of is not null
    union all
    select r.parent_run, t.key, t.body
    from json_to_recordset(p_told) as t (run uuid, of int, key text, body json)
    join engine.runs r on r.run_id = t.run
    where t.of is null and r.parent_run is not null
$$;

drop function engine.lock_family(json, json);

-- Keeps everybody of the family who may hear something from ending between the look and the message.
create function engine.lock_family(p_close json, p_cancel_children json, p_told json) returns void
language plpgsql volatile as $$
begin
    perform 1 from engine.runs
    where run_id in (
        select c.run from json_to_recordset(p_close) as c (run uuid)
        union all
        select r.parent_run from json_to_recordset(p_close) as c (run uuid) join engine.runs r on r.run_id = c.run
        union all
        select r.run_id from json_to_recordset(p_close) as c (run uuid, state text) join engine.runs r on r.parent_run = c.run
        where r.on_parent_close = 'cancel' and r.state in ('open', 'suspended') and c.state <> 'suspended'
        union all
        select r.run_id from json_to_recordset(p_cancel_children) as c (run uuid, seq int)
        join engine.runs r on r.parent_run = c.run and r.parent_seq = c.seq
        union all
        select k.run_id from engine.kin_told(p_told) as k
    )
    order by run_id for no key update;
end $$;

-- A batch of turns, all of it or nothing. p_rest holds lists under the names used below; an absent one is empty.
create or replace function engine.commit_turns(
    p_worker uuid, p_epoch bigint,
    p_runs uuid[], p_seqs int[], p_kinds text[], p_bodies bytea[], p_keys text[], p_turns uuid[], p_hashes bytea[],
    p_consumed_runs uuid[], p_consumed_keys text[],
    p_rest json
) returns void
language plpgsql volatile as $$
declare
    v_now   timestamptz;
    v_ended uuid[];
    v_rows  bigint;
    v_child record;
    v_open  uuid;
    v_begun jsonb := '[]';
begin
    perform engine.fence(p_worker, p_epoch);
    v_now := engine.now();

    if p_rest -> 'close' is not null or p_rest -> 'cancel_children' is not null or p_rest -> 'told' is not null then
        perform engine.lock_family(p_rest -> 'close', p_rest -> 'cancel_children', p_rest -> 'told');
    end if;
    if p_rest -> 'close' is not null then
        update engine.runs r
        set state = c.state, problem = c.problem, owner = null, owner_epoch = null,
            closed_at = case when c.state = 'suspended' then null else v_now end
        from json_to_recordset(p_rest -> 'close') as c (run uuid, state text, problem json)
        where r.run_id = c.run;
        get diagnostics v_rows = row_count;
        if v_rows <> json_array_length(p_rest -> 'close') then
            raise exception using errcode = 'SB003', message = 'a run to close does not exist';
        end if;
        select coalesce(array_agg(run), '{}') into v_ended
        from json_to_recordset(p_rest -> 'close') as c (run uuid, state text) where state <> 'suspended';
    end if;

    -- After the endings: a run may start its own successor in the turn that ends it.
    for v_child in
        select * from json_to_recordset(p_rest -> 'children') as c (
            run uuid, seq int, child uuid, on_parent_close text, workflow text, workflow_id text, requested_by text, trace text)
        order by workflow_id, child
    loop
        v_open := engine.start_child(v_child.run, v_child.seq, v_child.child, v_child.on_parent_close, v_child.workflow,
                                     v_child.workflow_id, v_child.requested_by, v_child.trace);
        v_begun := v_begun || jsonb_build_object('run', v_child.run, 'seq', v_child.seq, 'child', v_child.child, 'open', v_open);
    end loop;

    insert into engine.events (run_id, seq, kind, body, msg_key, worker_id, lease_epoch, turn, hash)
    select e.run_id, e.seq, e.kind, e.body, e.msg_key, p_worker, p_epoch, e.turn, e.hash
    from unnest(p_runs, p_seqs, p_kinds, p_bodies, p_keys, p_turns, p_hashes) as e (run_id, seq, kind, body, msg_key, turn, hash)
    order by e.run_id, e.seq;

    if p_rest -> 'tasks' is not null then
        insert into engine.tasks (run_id, seq, queue, activity, input, options, effect, scope, lock_grant, trace, run_epoch,
                                  max_attempts, scheduled_at, not_before, start_to_close, heartbeat_timeout,
                                  queue_deadline, total_deadline)
        select t.run, t.seq, t.queue, t.activity, t.input, t.options, t.effect, t.scope, t.lock_grant, t.trace, t.run_epoch,
               t.max_attempts, v_now, v_now, t.start_to_close_ms * interval '1 ms', t.heartbeat_ms * interval '1 ms',
               v_now + t.queue_ms * interval '1 ms', v_now + t.total_ms * interval '1 ms'
        from json_to_recordset(p_rest -> 'tasks') as t (
            run uuid, seq int, queue text, activity text, input json, options jsonb, effect text, scope text, lock_grant jsonb,
            trace text, run_epoch bigint, max_attempts int, start_to_close_ms float8, heartbeat_ms float8, queue_ms float8,
            total_ms float8)
        order by t.run, t.seq;
    end if;
    if p_rest -> 'cancel_tasks' is not null then
        with told as materialized (
            select t.run_id, t.seq from engine.tasks t
            join json_to_recordset(p_rest -> 'cancel_tasks') as c (run uuid, seq int) on t.run_id = c.run and t.seq = c.seq
            order by t.run_id, t.seq for update of t
        )
        update engine.tasks t set cancel_requested = true from told where t.run_id = told.run_id and t.seq = told.seq;
    end if;
    if v_ended is not null then
        delete from engine.tasks where run_id = any (v_ended);
    end if;

    if p_rest -> 'timers' is not null then
        insert into engine.timers (run_id, seq, due_at)
        select run, seq, due_at from json_to_recordset(p_rest -> 'timers') as t (run uuid, seq int, due_at timestamptz)
        order by run, seq;
    end if;
    if p_rest -> 'drop_timers' is not null then
        delete from engine.timers t using json_to_recordset(p_rest -> 'drop_timers') as d (run uuid, seq int)
        where t.run_id = d.run and t.seq = d.seq;
        get diagnostics v_rows = row_count;
        if v_rows <> json_array_length(p_rest -> 'drop_timers') then
            raise exception using errcode = 'SB002', message = 'a timer to delete is gone';
        end if;
    end if;
    if v_ended is not null then
        delete from engine.timers where run_id = any (v_ended);
    end if;

    if p_rest -> 'locks' is not null then
        insert into engine.lock_requests (run_id, seq, resources, requested_at)
        select run, seq, resources, v_now from json_to_recordset(p_rest -> 'locks') as l (run uuid, seq int, resources text[])
        order by run, seq;
    end if;
    if p_rest -> 'release_locks' is not null then
        perform engine.free_locks(run, seq) from json_to_recordset(p_rest -> 'release_locks') as l (run uuid, seq int);
    end if;
    if v_ended is not null then
        perform engine.free_locks(run, null) from unnest(v_ended) as run;
    end if;

    delete from engine.inbox i using unnest(p_consumed_runs, p_consumed_keys) as c (run_id, msg_key)
    where i.run_id = c.run_id and i.msg_key = c.msg_key;
    get diagnostics v_rows = row_count;
    if v_rows <> cardinality(p_consumed_runs) then
        raise exception using errcode = 'SB002', message = 'a message to delete is gone';
    end if;
    if v_begun <> '[]' then
        perform engine.tell_of_children(v_begun, p_rest -> 'children');
    end if;
    if p_rest -> 'cancel_children' is not null then
        insert into engine.inbox (run_id, msg_key, body)
        select r.run_id, 'cancel', c.body
        from json_to_recordset(p_rest -> 'cancel_children') as c (run uuid, seq int, body json)
        join engine.runs r on r.parent_run = c.run and r.parent_seq = c.seq and r.state in ('open', 'suspended')
        order by r.run_id
        on conflict do nothing;
    end if;
    if p_rest -> 'told' is not null then
        insert into engine.inbox (run_id, msg_key, body)
        select k.run_id, k.msg_key, k.body from engine.kin_told(p_rest -> 'told') as k
        join engine.runs r on r.run_id = k.run_id and r.state in ('open', 'suspended')
        order by k.run_id, k.msg_key
        on conflict do nothing;
    end if;
    if v_ended is not null then
        delete from engine.inbox where run_id = any (v_ended);
        perform engine.tell_of_endings(p_rest -> 'close');
    end if;

    if p_rest -> 'projections' is not null then
        perform engine.project(p_rest -> 'projections');
    end if;
end $$;
