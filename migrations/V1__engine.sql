-- The engine's tables: durable executions, their histories, and the queues between those who work on them.
--
--   leases ──fence──▶ every write of a worker        runs ◀─claim─ workers
--   events (truth)    inbox ◀─ tasks, timers, locks, anybody        tasks ◀─claim─ workers and agents
--
-- Rules: 1. The right to write is the row (worker_id, epoch) of leases; its deletion ends it, nothing else does. 2. Only the
-- owner of a run writes its events; everybody else inserts an inbox row. 3. Locks are taken in the order lease, run, events,
-- task, timer, lock, inbox, projection, and within a table by key. 4. Time is engine.now().
-- Errors raised here: SB001 fenced, SB002 a row to delete is gone, SB003 a row is refused.

create schema engine;

create function engine.now() returns timestamptz
language sql volatile parallel safe
return clock_timestamp();

comment on function engine.now() is 'The clock of the product. Replaced in databases made for tests, so that they can move it.';

-- Who may write ------------------------------------------------------------------------------------------------------------

create sequence engine.lease_epochs;

-- The epoch belongs to the key: a takeover is then a change of key, which "for key share" waits for, and a heartbeat is none.
create table engine.leases (
    worker_id  uuid        not null,
    epoch      bigint      not null,
    expires_at timestamptz not null,
    primary key (worker_id, epoch)
) with (fillfactor = 20);

create function engine.fence(p_worker uuid, p_epoch bigint) returns void
language plpgsql volatile as $$
begin
    perform 1 from engine.leases where worker_id = p_worker and epoch = p_epoch for key share;
    if not found then
        raise exception using errcode = 'SB001', message = format('the lease of worker %s epoch %s is gone', p_worker, p_epoch);
    end if;
end $$;

-- One row: whose database this is, and which of its lives.
create table engine.store (
    one               boolean primary key default true check (one),
    era               bigint  not null check (era > 0),
    system_identifier text    not null,
    timeline          text    not null
);

-- Runs and their histories -------------------------------------------------------------------------------------------------

-- Written at start, claim, release and close; never by a turn.
create table engine.runs (
    run_id       uuid        primary key,
    workflow     text        not null,
    workflow_id  text        not null,
    requested_by text        not null,
    trace        text,
    state        text        not null default 'open' check (state in ('open', 'suspended', 'completed', 'failed', 'cancelled')),
    problem      json,
    owner        uuid,
    owner_epoch  bigint,
    epoch        bigint      not null default 0,
    started_at   timestamptz not null,
    closed_at    timestamptz,
    check ((owner is null) = (owner_epoch is null))
) with (fillfactor = 70);

create unique index runs_one_open on engine.runs (workflow_id) where state in ('open', 'suspended');
create index runs_open on engine.runs (run_id) where state = 'open';
create index runs_by_workflow_id on engine.runs (workflow_id, run_id);

-- Partitioned by run and not by time: a key without the partition column is impossible, and one with the time would accept a
-- second writer. Run ids are version 7, so a range of them is a range of starting times.
create table engine.events (
    run_id      uuid   not null,
    seq         int    not null check (seq >= 0),
    kind        text   not null,
    body        bytea  not null,
    msg_key     text,
    worker_id   uuid   not null,
    lease_epoch bigint not null,
    turn        uuid   not null,
    hash        bytea  not null check (length(hash) = 32),
    primary key (run_id, seq)
) partition by range (run_id);

create unique index events_message_once on engine.events (run_id, msg_key) where msg_key is not null;

create function engine.events_are_append_only() returns trigger
language plpgsql as $$
begin
    raise exception using errcode = 'SB003', message = 'histories are append-only';
end $$;

create trigger events_are_append_only before update or delete on engine.events
    for each row execute function engine.events_are_append_only();

create function engine.first_run_id(p_at timestamptz) returns uuid
language sql immutable strict parallel safe
return (lpad(to_hex((extract(epoch from p_at) * 1000)::bigint), 12, '0') || '70008000000000000000')::uuid;

comment on function engine.first_run_id(timestamptz) is 'Lowest run id of runs that start at or after that time.';

create function engine.add_event_partition(p_name text, p_from timestamptz, p_to timestamptz) returns void
language plpgsql as $$
begin
    execute format('create table engine.%I partition of engine.events for values from (%L) to (%L)',
                   p_name, engine.first_run_id(p_from), engine.first_run_id(p_to));
end $$;

comment on function engine.add_event_partition(text, timestamptz, timestamptz) is
    'Adds a partition for runs that start in [from, to). Call it before that time: rows that the default partition already '
    'holds for the range make it fail, and nothing is moved by itself. A partition is detached when all its runs are closed '
    'and archived.';

create table engine.events_default partition of engine.events default;

do $$
declare
    quarter timestamptz;
begin
    for quarter in select generate_series('2026-10-01 00:00Z'::timestamptz, '2028-10-01 00:00Z', '3 months') loop
        perform engine.add_event_partition(to_char(quarter at time zone 'UTC', '"events_"YYYY"q"Q'), quarter,
                                           (quarter at time zone 'UTC' + interval '3 months') at time zone 'UTC');
    end loop;
end $$;

create table engine.inbox (
    id      bigint generated always as identity (cache 1),
    run_id  uuid not null,
    msg_key text not null,
    body    json not null,
    primary key (run_id, msg_key)
);

create table engine.timers (
    run_id uuid        not null,
    seq    int         not null,
    due_at timestamptz not null,
    primary key (run_id, seq)
);

create index timers_due on engine.timers (due_at);

-- The job queue ------------------------------------------------------------------------------------------------------------

create table engine.tasks (
    run_id            uuid        not null,
    seq               int         not null,
    queue             text        not null,
    activity          text        not null,
    input             json        not null,
    options           jsonb       not null,
    effect            text        not null check (effect in ('idempotent', 'probeable', 'at_most_once')),
    scope             text        not null check (scope in ('prod', 'isolated', 'read')),
    lock_grant        jsonb,
    trace             text,
    run_epoch         bigint      not null,
    state             text        not null default 'queued' check (state in ('queued', 'claimed', 'dead')),
    attempt           int         not null default 0,
    max_attempts      int         not null,
    worker_id         uuid,
    lease_epoch       bigint,
    in_doubt          boolean     not null default false,
    cancel_requested  boolean     not null default false,
    scheduled_at      timestamptz not null,
    not_before        timestamptz not null,
    start_to_close    interval    not null,
    heartbeat_timeout interval,
    queue_deadline    timestamptz,
    total_deadline    timestamptz,
    attempt_deadline  timestamptz,
    heartbeat_at      timestamptz,
    heartbeat_detail  json,
    problem           json,
    primary key (run_id, seq),
    check ((state = 'claimed') = (worker_id is not null)),
    check ((worker_id is null) = (lease_epoch is null))
) with (fillfactor = 50);

create index tasks_by_queue on engine.tasks (queue, not_before) where state <> 'dead';

-- Locks across runs --------------------------------------------------------------------------------------------------------

-- Rows stay when a lock is free: its epoch never goes back.
create table engine.locks (
    resource    text   primary key,
    epoch       bigint not null default 0,
    holder_run  uuid,
    holder_seq  int,
    granted_at  timestamptz,
    check ((holder_run is null) = (holder_seq is null))
);

create index locks_by_holder on engine.locks (holder_run) where holder_run is not null;

create table engine.lock_requests (
    id           bigint generated always as identity (cache 1) primary key,
    run_id       uuid        not null,
    seq          int         not null,
    resources    text[]      not null check (cardinality(resources) > 0),
    requested_at timestamptz not null,
    unique (run_id, seq)
);

-- What a projection does with the rows of a turn is the business of whoever owns the projection.
create function engine.project(p_rows json) returns void
language plpgsql volatile as $$
begin
    raise exception using errcode = 'SB003', message = 'no projection is installed';
end $$;

-- A worker's writes ----------------------------------------------------------------------------------------------------------

-- Two statements: one that locks and one that looks again. A look and a lock in one judge a row that was claimed in between by
-- leases of before, and take the run from a living owner.
create function engine.claim_runs(p_worker uuid, p_epoch bigint, p_limit int) returns table (run_id uuid, epoch bigint)
language plpgsql volatile as $$
#variable_conflict use_column
declare
    v_locked uuid[];
begin
    perform engine.fence(p_worker, p_epoch);
    select array_agg(free.run_id) into v_locked from (
        select r.run_id from engine.runs r
        where r.state = 'open'
          and (r.owner is not null or exists (select from engine.inbox i where i.run_id = r.run_id))
          and not exists (select from engine.leases l where l.worker_id = r.owner and l.epoch = r.owner_epoch)
        order by r.run_id limit p_limit for update skip locked
    ) free;
    return query
        update engine.runs r set owner = p_worker, owner_epoch = p_epoch, epoch = r.epoch + 1
        where r.run_id = any (v_locked) and r.state = 'open'
          and (r.owner is not null or exists (select from engine.inbox i where i.run_id = r.run_id))
          and not exists (select from engine.leases l where l.worker_id = r.owner and l.epoch = r.owner_epoch)
        returning r.run_id, r.epoch;
end $$;

create function engine.release_runs(p_worker uuid, p_epoch bigint, p_runs uuid[]) returns void
language plpgsql volatile as $$
begin
    perform engine.fence(p_worker, p_epoch);
    with ours as materialized (
        select run_id from engine.runs
        where run_id = any (p_runs) and owner = p_worker and owner_epoch = p_epoch
        order by run_id for update
    )
    update engine.runs r set owner = null, owner_epoch = null from ours where r.run_id = ours.run_id;
end $$;

-- A batch of turns, all of it or nothing. p_rest holds lists under the names used below; an absent one is empty.
create function engine.commit_turns(
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
begin
    perform engine.fence(p_worker, p_epoch);
    v_now := engine.now();

    if p_rest -> 'close' is not null then
        perform 1 from engine.runs where run_id in (select run from json_to_recordset(p_rest -> 'close') as c (run uuid))
            order by run_id for no key update;
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
    if v_ended is not null then
        delete from engine.inbox where run_id = any (v_ended);
    end if;

    if p_rest -> 'projections' is not null then
        perform engine.project(p_rest -> 'projections');
    end if;
end $$;

create function engine.claim_tasks(p_worker uuid, p_epoch bigint, p_queues text[], p_limit int) returns setof engine.tasks
language plpgsql volatile as $$
declare
    v_now timestamptz;
begin
    perform engine.fence(p_worker, p_epoch);
    v_now := engine.now();
    return query
        with free as materialized (
            select t.run_id, t.seq from engine.tasks t
            where t.queue = any (p_queues) and t.attempt < t.max_attempts
              and (t.state = 'queued' and t.not_before <= v_now and (not t.cancel_requested or t.in_doubt)
                   or t.state = 'claimed' and engine.attempt_is_over(t, v_now))
            order by t.not_before, t.run_id, t.seq limit p_limit for update skip locked
        )
        update engine.tasks t
        set in_doubt = t.in_doubt or t.state = 'claimed', state = 'claimed', attempt = t.attempt + 1, worker_id = p_worker,
            lease_epoch = p_epoch, attempt_deadline = v_now + t.start_to_close, heartbeat_at = v_now, heartbeat_detail = null
        from free where t.run_id = free.run_id and t.seq = free.seq
        returning t.*;
end $$;

-- What anybody may do for everybody ------------------------------------------------------------------------------------------

-- Past its deadline, silent, or its lease is gone: nobody is known to carry it out.
create function engine.attempt_is_over(p_task engine.tasks, p_now timestamptz) returns boolean
language sql stable as $$
    select p_task.attempt_deadline < p_now
        or p_task.heartbeat_at + p_task.heartbeat_timeout < p_now
        or not exists (select from engine.leases l where l.worker_id = p_task.worker_id and l.epoch = p_task.lease_epoch)
$$;

-- Forgets the requests of a run, or one of them, and frees what they hold.
create function engine.free_locks(p_run uuid, p_seq int) returns void
language plpgsql volatile as $$
begin
    delete from engine.lock_requests where run_id = p_run and (p_seq is null or seq = p_seq);
    perform 1 from engine.locks where holder_run = p_run and (p_seq is null or holder_seq = p_seq) order by resource for update;
    update engine.locks set holder_run = null, holder_seq = null, granted_at = null
    where holder_run = p_run and (p_seq is null or holder_seq = p_seq);
end $$;

create function engine.grant_locks(p_limit int) returns int
language plpgsql volatile as $$
declare
    v_request engine.lock_requests;
    v_granted int := 0;
    v_grants  json;
begin
    for v_request in
        select q.* from engine.lock_requests q
        where not exists (select from engine.locks l where l.resource = any (q.resources) and l.holder_run is not null)
        order by q.id limit p_limit for update skip locked
    loop
        insert into engine.locks (resource) select unnest(v_request.resources) order by 1 on conflict do nothing;
        perform 1 from engine.locks where resource = any (v_request.resources) order by resource for update;
        continue when exists (select from engine.locks where resource = any (v_request.resources) and holder_run is not null);
        with taken as (
            update engine.locks
            set epoch = epoch + 1, holder_run = v_request.run_id, holder_seq = v_request.seq, granted_at = engine.now()
            where resource = any (v_request.resources)
            returning resource, epoch
        )
        select json_agg(json_build_object('resource', t.resource, 'epoch', t.epoch, 'era', s.era) order by t.resource)
        into v_grants from taken t, engine.store s;
        delete from engine.lock_requests where id = v_request.id;
        insert into engine.inbox (run_id, msg_key, body)
        values (v_request.run_id, 'lock:' || v_request.seq,
                json_build_object('message', 'granted', 'of', v_request.seq, 'grants', v_grants));
        v_granted := v_granted + 1;
    end loop;
    return v_granted;
end $$;

-- Anybody's messages ---------------------------------------------------------------------------------------------------------

-- Gives null if the run exists now, else the open run that has the workflow id.
create function engine.start_run(
    p_run uuid, p_workflow text, p_workflow_id text, p_requested_by text, p_trace text, p_body json
) returns uuid
language plpgsql volatile as $$
declare
    v_open uuid;
begin
    loop
        insert into engine.runs (run_id, workflow, workflow_id, requested_by, trace, started_at)
        values (p_run, p_workflow, p_workflow_id, p_requested_by, p_trace, engine.now())
        on conflict do nothing;
        if found then
            insert into engine.inbox (run_id, msg_key, body) values (p_run, 'start', p_body);
            return null;
        end if;
        if exists (select from engine.runs where run_id = p_run) then
            return null;
        end if;
        select run_id into v_open from engine.runs where workflow_id = p_workflow_id and state in ('open', 'suspended');
        if found then
            return v_open;
        end if;
    end loop;
end $$;

-- The share lock keeps the run from being closed between the look and the insert.
create function engine.send(p_run uuid, p_key text, p_body json) returns text
language plpgsql volatile as $$
declare
    v_state text;
begin
    select state into v_state from engine.runs where run_id = p_run for share;
    if not found then
        return 'no_such_run';
    end if;
    if v_state not in ('open', 'suspended') then
        return 'closed';
    end if;
    insert into engine.inbox (run_id, msg_key, body) values (p_run, p_key, p_body) on conflict do nothing;
    return 'accepted';
end $$;

-- Hot, small tables: vacuum early, so that dead rows never outweigh living ones for long.
alter table engine.leases set (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 200);
alter table engine.inbox  set (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);
alter table engine.tasks  set (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);
alter table engine.timers set (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);
