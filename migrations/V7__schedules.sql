-- Schedules: workflows that are started at the times of a calendar, and what became of each time.
--
--   schedules ─ due ─▶ engine.fire ─▶ firings, runs, inbox, next_at: one transaction
--
-- Rules: 1. A fire time has one row of firings, or is yet to come. 2. engine.fire alone writes firings and moves next_at; it
-- carries the version and the time that its caller read, and changes nothing if either is another. 3. Firings stay when their
-- schedule goes. 4. The schedule's row is locked before the run's.

create sequence engine.schedule_versions;

create table engine.schedules (
    name         text        primary key,
    version      bigint      not null default nextval('engine.schedule_versions'),
    spec         json        not null,
    workflow_id  text        not null,
    waits        boolean     not null,
    next_at      timestamptz not null,
    due_at       timestamptz not null,
    created_by   text        not null,
    created_at   timestamptz not null,
    paused_at    timestamptz,
    paused_by    text,
    pause_reason text,
    resumed_at   timestamptz,
    check ((paused_at is null) = (paused_by is null) and (paused_at is null) = (pause_reason is null)),
    check (resumed_at is null or paused_at is not null)
);

create index schedules_due on engine.schedules (due_at);

comment on column engine.schedules.next_at is 'The fire time that comes next; its run starts at due_at, later by the jitter.';
comment on column engine.schedules.paused_at is 'The last pause; over when resumed_at is set.';

create table engine.firings (
    schedule    text        not null,
    fire_at     timestamptz not null,
    until       timestamptz not null,
    count       int         not null check (count > 0),
    outcome     text        not null check (outcome in ('started', 'missed')),
    kind        text        not null,
    cause       text        not null,
    run_id      uuid,
    recorded_at timestamptz not null,
    primary key (schedule, fire_at),
    check (until >= fire_at),
    check (outcome = 'missed' or run_id is not null)
);

comment on column engine.firings.run_id is 'The run that was started, or because of which the time was missed.';

create view engine.schedules_seen as
select s.*,
       (select r.run_id from engine.runs r where r.workflow_id = s.workflow_id and r.state in ('open', 'suspended')) as open_run,
       (select r.closed_at from engine.runs r where r.workflow_id = s.workflow_id and r.closed_at is not null
        order by r.run_id desc limit 1) as free_since
from engine.schedules s;

-- p_missed is a list of {at, until, count, kind, cause}; p_start is {at, kind, cause, waits, run, body} or null. Without a version
-- it is a start by hand, which moves nothing. Gives started, recorded, skipped, waits or taken, with the run that is meant.
create function engine.fire(
    p_name text, p_version bigint, p_from timestamptz, p_next_at timestamptz, p_due_at timestamptz, p_missed json, p_start json
) returns table (fired text, run uuid)
language plpgsql volatile as $$
declare
    v_schedule engine.schedules;
    v_at       timestamptz := (p_start ->> 'at')::timestamptz;
    v_run      uuid := (p_start ->> 'run')::uuid;
    v_body     json := p_start -> 'body';
    v_open     uuid;
    v_fired    text := 'recorded';
begin
    select * into v_schedule from engine.schedules s where s.name = p_name for update;
    if not found or p_version is not null and (v_schedule.version <> p_version or v_schedule.next_at <> p_from) then
        return query select 'taken', null::uuid;
        return;
    end if;
    if v_at is not null and not exists (select from engine.firings f where f.schedule = p_name and f.fire_at = v_at) then
        v_open := engine.start_run(v_run, v_body ->> 'workflow', v_body ->> 'workflow_id', v_body ->> 'requested_by',
                                   v_body ->> 'trace', v_body);
        if v_open is not null and (p_start ->> 'waits')::boolean then
            return query select 'waits', v_open;
            return;
        end if;
        v_fired := case when v_open is null then 'started' else 'skipped' end;
        v_run := coalesce(v_open, v_run);
        insert into engine.firings (schedule, fire_at, until, count, outcome, kind, cause, run_id, recorded_at)
        select p_name, v_at, v_at, 1, case v_fired when 'started' then 'started' else 'missed' end,
               case v_fired when 'started' then p_start ->> 'kind' else 'overlap' end,
               case v_fired when 'started' then p_start ->> 'cause'
                            else format('run %s of %s was still open', v_open, v_body ->> 'workflow_id') end,
               v_run, engine.now();
    end if;
    insert into engine.firings (schedule, fire_at, until, count, outcome, kind, cause, recorded_at)
    select p_name, m.at, m.until, m.count, 'missed', m.kind, m.cause, engine.now()
    from json_to_recordset(p_missed) as m (at timestamptz, until timestamptz, count int, kind text, cause text)
    order by m.at
    on conflict do nothing;
    if p_version is not null then
        update engine.schedules s set next_at = p_next_at, due_at = p_due_at where s.name = p_name;
    end if;
    return query select v_fired, v_run;
end $$;
