-- Child executions: runs that runs start, of which they hear how they end.
--
--   turn of the parent ──▶ run of the child, "started" | "refused" ──▶ … ──▶ turn that ends the child ──▶ "closed" to the parent
--
-- Rules: 1. A child is inserted by the transaction that stores the wish for it. 2. Rows of runs are locked first, all of a family at
-- once and in the order of their ids: those that end, their parents, and those children that are told to stop. 3. Who has ended
-- hears nothing any more.

alter table engine.runs
    add column parent_run      uuid,
    add column parent_seq      int,
    add column on_parent_close text check (on_parent_close in ('cancel', 'leave')),
    add constraint a_child_has_all_of_it check ((parent_run is null) = (parent_seq is null) and (parent_run is null) = (on_parent_close is null));

create index runs_by_parent on engine.runs (parent_run, parent_seq) where parent_run is not null;

-- Keeps everybody of the family who may hear something from ending between the look and the message.
create function engine.lock_family(p_close json, p_cancel_children json) returns void
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
    )
    order by run_id for no key update;
end $$;

-- Gives null if the child exists now, else the open run that has the workflow id.
create function engine.start_child(
    p_parent uuid, p_seq int, p_child uuid, p_on_parent_close text, p_workflow text, p_workflow_id text, p_requested_by text, p_trace text
) returns uuid
language plpgsql volatile as $$
declare
    v_open uuid;
begin
    loop
        insert into engine.runs (run_id, workflow, workflow_id, requested_by, trace, started_at, parent_run, parent_seq, on_parent_close)
        values (p_child, p_workflow, p_workflow_id, p_requested_by, p_trace, engine.now(), p_parent, p_seq, p_on_parent_close)
        on conflict do nothing;
        if found then
            return null;
        end if;
        -- This turn was stored before, and its events say so in a moment.
        if exists (select from engine.runs where run_id = p_child) then
            return null;
        end if;
        select run_id into v_open from engine.runs where workflow_id = p_workflow_id and state in ('open', 'suspended');
        if found then
            return v_open;
        end if;
    end loop;
end $$;

-- To each child its start, to each parent that goes on what became of its wish.
create function engine.tell_of_children(p_begun jsonb, p_children json) returns void
language plpgsql volatile as $$
begin
    insert into engine.inbox (run_id, msg_key, body)
    select b.child, 'start', c.body
    from jsonb_to_recordset(p_begun) as b (child uuid, open uuid)
    join json_to_recordset(p_children) as c (child uuid, body json) on c.child = b.child
    where b.open is null order by b.child;
    insert into engine.inbox (run_id, msg_key, body)
    select b.run, 'child:' || b.seq,
           case when b.open is null then json_build_object('message', 'child_started', 'of', b.seq)
                else json_build_object('message', 'child_refused', 'of', b.seq, 'open', b.open) end
    from jsonb_to_recordset(p_begun) as b (run uuid, seq int, open uuid)
    join engine.runs r on r.run_id = b.run and r.state in ('open', 'suspended')
    order by b.run, b.seq;
end $$;

create function engine.tell_of_endings(p_close json) returns void
language plpgsql volatile as $$
begin
    insert into engine.inbox (run_id, msg_key, body)
    select p.run_id, 'child-end:' || r.parent_seq, json_build_object('message', 'child_closed', 'of', r.parent_seq, 'result', c.result)
    from json_to_recordset(p_close) as c (run uuid, state text, result json)
    join engine.runs r on r.run_id = c.run
    join engine.runs p on p.run_id = r.parent_run and p.state in ('open', 'suspended')
    where c.state <> 'suspended'
    order by p.run_id, r.parent_seq;
    insert into engine.inbox (run_id, msg_key, body)
    select r.run_id, 'cancel',
           json_build_object('message', 'cancel', 'by', 'run ' || c.run, 'reason', 'the run that asked for it has ended')
    from json_to_recordset(p_close) as c (run uuid, state text)
    join engine.runs r on r.parent_run = c.run and r.on_parent_close = 'cancel' and r.state in ('open', 'suspended')
    where c.state <> 'suspended'
    order by r.run_id
    on conflict do nothing;
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

    if p_rest -> 'close' is not null or p_rest -> 'cancel_children' is not null then
        perform engine.lock_family(p_rest -> 'close', p_rest -> 'cancel_children');
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
    if v_ended is not null then
        delete from engine.inbox where run_id = any (v_ended);
        perform engine.tell_of_endings(p_rest -> 'close');
    end if;

    if p_rest -> 'projections' is not null then
        perform engine.project(p_rest -> 'projections');
    end if;
end $$;
