-- Recovery plans: their versions, what their runs do step by step, and what is to begin by itself later.
--
--   apply ──▶ plans, plan_versions        run ──recorded──▶ plan_runs, plan_steps        deadline ──due──▶ run
--
-- Rules: 1. Runs and steps are projections, written with the events that cause them. 2. A deadline is fired by the transaction that
-- starts its run; its name says what it is about, and a newer one takes its place.

create table recovery.plans (
    name    text   primary key,
    version bigint not null check (version > 0)
);

create table recovery.plan_versions (
    name       text        not null,
    version    bigint      not null,
    text       text        not null,
    plan       jsonb       not null,
    sha256     bytea       not null check (length(sha256) = 32),
    applied_by text        not null,
    applied_at timestamptz not null,
    primary key (name, version)
);

-- Which plans an item is in now.
create table recovery.plan_items (
    plan text not null references recovery.plans (name) on delete cascade,
    item text not null,
    primary key (item, plan)
);

create table recovery.plan_runs (
    root          uuid        primary key,
    plan          text        not null,
    work          text        not null,
    version       bigint      not null,
    sha256        text        not null,
    rto_target_ms bigint,
    rpo_target_ms bigint,
    began_at      timestamptz not null,
    ended_at      timestamptz,
    failure       text
);

create index plan_runs_by_plan on recovery.plan_runs (plan, began_at desc);

create table recovery.plan_steps (
    root     uuid        not null,
    key      text        not null,
    state    text        not null check (state in ('running', 'waiting', 'done', 'failed', 'skipped', 'put-back')),
    began_at timestamptz not null,
    ended_at timestamptz,
    attempts int         not null,
    said     text        not null,
    run_id   uuid,
    asked_by uuid,
    question jsonb,
    primary key (root, key)
);

create table recovery.deadlines (
    name        text        primary key,
    due_at      timestamptz not null,
    workflow    text        not null,
    workflow_id text        not null,
    input       jsonb       not null,
    cause       text        not null,
    set_by      uuid        not null,
    started_run uuid
);

create index deadlines_due on recovery.deadlines (due_at) where started_run is null;

-- Gives the version, which is the old one if nothing changed.
create function recovery.apply_plan(p_name text, p_text text, p_plan jsonb, p_sha256 bytea, p_items text[], p_by text) returns bigint
language plpgsql volatile as $$
declare
    v_version bigint;
    v_sha256  bytea;
begin
    insert into recovery.plans as p (name, version) values (p_name, 1)
    on conflict (name) do update set version = p.version
    returning version into v_version;
    select sha256 into v_sha256 from recovery.plan_versions where name = p_name and version = v_version;
    if v_sha256 is not distinct from p_sha256 then
        return v_version;
    end if;
    -- A plan that was removed and comes back goes on counting: a version means one text for ever.
    select coalesce(max(version) + 1, 1) into v_version from recovery.plan_versions where name = p_name;
    insert into recovery.plan_versions (name, version, text, plan, sha256, applied_by, applied_at)
    values (p_name, v_version, p_text, p_plan, p_sha256, p_by, engine.now());
    update recovery.plans set version = v_version where name = p_name;
    delete from recovery.plan_items where plan = p_name and item <> all (p_items);
    insert into recovery.plan_items (plan, item) select p_name, unnest(p_items) on conflict do nothing;
    return v_version;
end $$;

-- Starts what is due. What an open run is about waits for its end.
create function recovery.fire_deadlines() returns int
language plpgsql volatile as $$
declare
    v_row   record;
    v_run   uuid;
    v_open  uuid;
    v_fired int := 0;
begin
    for v_row in
        select * from recovery.deadlines where started_run is null and due_at <= engine.now() order by name for update skip locked
    loop
        v_run := md5(v_row.set_by::text || v_row.name || v_row.due_at::text)::uuid;
        v_open := engine.start_run(v_run, v_row.workflow, v_row.workflow_id, v_row.cause, null, json_build_object(
            'message', 'start', 'workflow', v_row.workflow, 'input', v_row.input, 'workflow_id', v_row.workflow_id,
            'requested_by', v_row.cause, 'trace', null));
        continue when v_open is not null;
        update recovery.deadlines set started_run = v_run where name = v_row.name;
        v_fired := v_fired + 1;
    end loop;
    return v_fired;
end $$;

create function recovery.project_plan(p_run uuid, p_fact json) returns void
language plpgsql volatile as $$
declare
    v_root uuid := (p_fact ->> 'root')::uuid;
    v_of   json := p_fact -> 'of';
    v_step json := v_of -> 'step';
begin
    case v_of ->> 'note'
        when 'began' then
            insert into recovery.plan_runs (root, plan, work, version, sha256, rto_target_ms, rpo_target_ms, began_at)
            values (v_root, p_fact ->> 'plan', v_of ->> 'work', (v_of ->> 'version')::bigint, v_of ->> 'sha256',
                    (v_of ->> 'rto_target_ms')::bigint, (v_of ->> 'rpo_target_ms')::bigint, engine.now());
        when 'step' then
            insert into recovery.plan_steps (root, key, state, began_at, ended_at, attempts, said, run_id, asked_by, question)
            values (v_root, v_step ->> 'key', v_step ->> 'state', (v_step ->> 'began_at')::timestamptz,
                    (v_step ->> 'ended_at')::timestamptz, (v_step ->> 'attempts')::int, coalesce(v_step ->> 'said', ''),
                    (v_step ->> 'run')::uuid, case when v_of -> 'question' is not null then p_run end, (v_of -> 'question')::jsonb)
            on conflict (root, key) do update
            set state = excluded.state, ended_at = excluded.ended_at, attempts = excluded.attempts, said = excluded.said,
                run_id = coalesce(excluded.run_id, plan_steps.run_id), asked_by = excluded.asked_by, question = excluded.question;
        when 'ended' then
            update recovery.plan_runs set ended_at = engine.now(), failure = v_of ->> 'failure' where root = v_root;
        else null;
    end case;
end $$;

create or replace function engine.project(p_rows json) returns void
language plpgsql volatile as $$
declare
    v_row record;
begin
    for v_row in
        select r.projection, r.run, r.seq, r.fact
        from rows from (json_to_recordset(p_rows) as (projection text, run uuid, seq int, fact json))
             with ordinality as r (projection, run, seq, fact, place)
        order by r.projection, coalesce(r.fact ->> 'item', r.fact ->> 'policy', r.fact ->> 'root'), r.place
    loop
        case v_row.projection
            when 'recovery.item' then perform recovery.project_item(v_row.run, v_row.seq, v_row.fact);
            when 'recovery.trigger' then perform recovery.project_trigger(v_row.run, v_row.fact);
            when 'recovery.plan' then perform recovery.project_plan(v_row.run, v_row.fact);
            else raise exception using errcode = 'SB003', message = format('no projection is called %s', v_row.projection);
        end case;
    end loop;
end $$;
