-- Attempts and children that a store has lost, of runs that come to their steps again in another order.
--
-- Before, an attempt was known again at its place alone, and so was a child: a run that went on in another order did the same step at another
-- place anew, as if nobody had ever begun it. A number that had been shown for a place was shown there again for another step, so that the late
-- result of the lost one counted for it. Of two steps that had stood at one place before two losses only one was known, and children of a child
-- that was lost were nobody's.
--
--   step comes again ─▶ same activity and input, wherever it stood: its result, or in doubt │ same activity at the same place: in doubt
--   step at a place where attempts were shown for another one ─▶ numbers go on behind them
--   child asked for again ─▶ known by what it is about; what was done for it and for its children counts

alter table engine.lost_effects
    add column adopted boolean not null default false,
    add column origin  uuid;

update engine.lost_effects set origin = run_id;

alter table engine.lost_effects
    alter column origin set not null,
    drop constraint lost_effects_pkey,
    add primary key (run_id, origin, seq, activity, input_sha256);

comment on column engine.lost_effects.adopted is 'A step has taken it over; kept for the numbers that were shown at its place.';
comment on column engine.lost_effects.origin is 'The run that it was done for: another one than it counts for, if that was a child that is gone.';

alter table engine.lost_children add column about text;

comment on column engine.lost_children.about is 'Its workflow id, by which it is known when it is asked for again; null: by its place.';

create or replace function engine.put_back(p_run uuid, p_start json) returns boolean
language plpgsql volatile as $$
begin
    insert into engine.runs (run_id, workflow, workflow_id, requested_by, trace, started_at, epoch)
    select p_run, p_start ->> 'workflow', p_start ->> 'workflow_id', p_start ->> 'requested_by', p_start ->> 'trace', engine.now(),
           coalesce((select max(run_epoch) from engine.lost_effects where origin = p_run), 0)
    on conflict do nothing;
    if not found then
        return false;
    end if;
    insert into engine.inbox (run_id, msg_key, body) values (p_run, 'start', p_start);
    return true;
end $$;

create or replace function engine.compare_runs(p_witness uuid, p_runs json) returns int
language plpgsql volatile as $$
declare
    v_note  record;
    v_found int := 0;
    v_what  text;
    v_about text;
    v_became text;
begin
    for v_note in
        select n.run, n.seq, coalesce(n.hash, '') as hash, n.start, n.child_of, r.run_id is not null as there, r.state, r.workflow_id, e.run_id is not null as other
        from json_to_recordset(p_runs) as n (run uuid, seq int, hash text, start json, child_of json)
        left join engine.runs r on r.run_id = n.run
        left join engine.events e on e.run_id = n.run and e.seq = n.seq
        where (r.run_id is null or n.seq >= 0 and e.hash is distinct from decode(n.hash, 'hex'))
          and not exists (select from engine.losses f where f.run_id = n.run and f.what in ('run', 'shorter', 'differs') and f.seq = n.seq
                          and f.mark = coalesce(n.hash, ''))
        order by n.run
    loop
        v_what := case when not v_note.there then 'run' when v_note.other then 'differs' else 'shorter' end;
        v_about := coalesce(v_note.workflow_id, v_note.start ->> 'workflow_id', v_note.child_of ->> 'about');
        if not v_note.there and (v_note.start ->> 'parent' is not null or v_note.child_of is not null) then
            insert into engine.lost_children (child, parent, seq, about)
            values (v_note.run, coalesce(v_note.start #>> '{parent,run}', v_note.child_of ->> 'parent')::uuid,
                    coalesce((v_note.start #>> '{parent,seq}')::int, -1), v_about)
            on conflict do nothing;
            v_became := 'lost';
        elsif not v_note.there then
            v_became := case when v_note.start is not null and engine.put_back(v_note.run, v_note.start) then 'held' else 'lost' end;
        else
            v_became := case when v_note.state in ('open', 'suspended') then 'held' else 'ended' end;
        end if;
        if v_became = 'held' then
            perform engine.hold(v_note.run);
        end if;
        perform engine.find_lost(p_witness, v_note.run, v_what, v_note.seq, v_note.hash, v_became, v_about);
        v_found := v_found + 1;
    end loop;
    return v_found;
end $$;

create or replace function engine.compare_effects(p_witness uuid, p_effects json) returns int
language plpgsql volatile as $$
declare
    v_note   record;
    v_found  int := 0;
    v_became text;
begin
    for v_note in
        select n.*, r.run_id is not null as there, r.state, r.workflow_id,
               asked.by is not null and t.run_id is not null and (asked.by = n.run_epoch or t.attempt < n.attempt) as waits,
               concat_ws(' ', n.era, n.run_epoch, n.attempt, left(n.input_sha256, 12)) as mark
        from json_to_recordset(p_effects) as n (run uuid, seq int, activity text, input_sha256 text, attempt int, run_epoch bigint, outcome json, accepted boolean, era bigint)
        left join engine.runs r on r.run_id = n.run
        left join engine.events e on e.run_id = n.run and e.seq = n.seq
        cross join lateral (select engine.asked_by(e, n.activity, n.input_sha256) as by) asked
        left join engine.tasks t on t.run_id = n.run and t.seq = n.seq
        where (asked.by is distinct from n.run_epoch or t.attempt < n.attempt or t.attempt = n.attempt and n.accepted and n.outcome is not null)
          and not exists (select from engine.losses f where f.run_id = n.run and f.what = 'effect' and f.seq = n.seq
                          and f.mark in (n.attempt::text, concat_ws(' ', n.era, n.run_epoch, n.attempt, left(n.input_sha256, 12))))
        order by n.run, n.seq, n.attempt
    loop
        if v_note.waits then
            v_became := 'adopted';
            perform engine.adopt_attempt(v_note.run, v_note.seq, v_note.attempt, case when v_note.accepted then v_note.outcome end);
        else
            v_became := case when not v_note.there then 'lost' when v_note.state in ('open', 'suspended') then 'held' else 'ended' end;
            insert into engine.lost_effects as l (run_id, origin, seq, activity, input_sha256, attempt, run_epoch, outcome)
            values (v_note.run, v_note.run, v_note.seq, v_note.activity, v_note.input_sha256, v_note.attempt, v_note.run_epoch,
                    case when v_note.accepted then v_note.outcome end)
            on conflict (run_id, origin, seq, activity, input_sha256) do update
            set attempt = excluded.attempt, run_epoch = excluded.run_epoch, outcome = excluded.outcome, adopted = false
            where (excluded.run_epoch, excluded.attempt) > (l.run_epoch, l.attempt);
            -- The next claim's tokens are to be greater than those that were shown.
            update engine.runs set epoch = v_note.run_epoch where run_id = v_note.run and epoch < v_note.run_epoch;
            if v_became = 'held' then
                perform engine.hold(v_note.run);
            end if;
        end if;
        perform engine.find_lost(p_witness, v_note.run, 'effect', v_note.seq, v_note.mark, v_became, coalesce(v_note.workflow_id || ': ', '') || v_note.activity);
        v_found := v_found + 1;
    end loop;
    return v_found;
end $$;

-- Tasks that were just inserted, of runs that have come to a step again.
create or replace function engine.adopt_effects(p_tasks json) returns void
language plpgsql volatile as $$
declare
    v_task  record;
    v_again record;
    v_alike int;
    v_shown int;
begin
    for v_task in
        select k.run_id, k.seq, k.activity, encode(sha256(convert_to(k.input::text, 'UTF8')), 'hex') as input_sha256
        from json_to_recordset(p_tasks) as t (run uuid, seq int) join engine.tasks k on k.run_id = t.run and k.seq = t.seq
        where exists (select from engine.lost_effects l where l.run_id = t.run)
        order by k.run_id, k.seq
    loop
        -- The same thing, at its place if it was asked for there, else the first of them; of each run that it was done for before.
        with again as (
            select distinct on (l.origin) l.origin, l.seq from engine.lost_effects l
            where l.run_id = v_task.run_id and l.activity = v_task.activity and l.input_sha256 = v_task.input_sha256 and not l.adopted
            order by l.origin, l.seq <> v_task.seq, l.seq
        ), taken as (
            update engine.lost_effects l set adopted = true from again a
            where l.run_id = v_task.run_id and l.origin = a.origin and l.seq = a.seq and l.activity = v_task.activity
              and l.input_sha256 = v_task.input_sha256
            returning l.origin, l.attempt, l.outcome
        )
        select max(attempt) as attempt, (array_agg(outcome order by origin) filter (where outcome is not null))[1] as outcome into v_again from taken;
        -- What is asked for with a time or an id of its own differs each time, and its place must do. The step that stood here may still come,
        -- at another place.
        select max(l.attempt) into v_alike from engine.lost_effects l
        where l.run_id = v_task.run_id and l.seq = v_task.seq and l.activity = v_task.activity and l.input_sha256 <> v_task.input_sha256
          and not l.adopted;
        if v_again.attempt is not null or v_alike is not null then
            perform engine.adopt_attempt(v_task.run_id, v_task.seq, coalesce(v_again.attempt, v_alike), v_again.outcome);
        end if;
        -- Whoever still works on another step that stood here is late: his number is not the task's.
        select max(l.attempt) into v_shown from engine.lost_effects l
        where l.origin = v_task.run_id and l.run_id = v_task.run_id and l.seq = v_task.seq
          and (l.activity, l.input_sha256) <> (v_task.activity, v_task.input_sha256);
        update engine.tasks set max_attempts = max_attempts + v_shown + 1, attempt = attempt + v_shown + 1
        where run_id = v_task.run_id and seq = v_task.seq and v_shown is not null;
    end loop;
    delete from engine.lost_effects l using engine.runs r
    where r.run_id = l.run_id and r.state not in ('open', 'suspended');
end $$;

-- What was done for a child that is gone was done for the one that is asked for where it was; its children are that one's.
drop function engine.follow_lost_child(uuid, int, uuid);

create function engine.follow_lost_child(p_parent uuid, p_about text, p_seq int, p_child uuid) returns void
language plpgsql volatile as $$
declare
    v_gone uuid[];
begin
    with gone as (
        delete from engine.lost_children where parent = p_parent and (about = p_about or about is null and seq = p_seq) returning child
    )
    select array_agg(child) into v_gone from gone;
    update engine.lost_children set parent = p_child where parent = any (v_gone);
    update engine.lost_effects set run_id = p_child where run_id = any (v_gone);
    update engine.losses set became = 'adopted' where run_id = any (v_gone) and settled_at is null;
end $$;

create or replace function engine.start_child(
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
            if exists (select from engine.lost_children) then
                perform engine.follow_lost_child(p_parent, p_workflow_id, p_seq, p_child);
            end if;
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
