-- Attempts that a store has lost, of runs that come to their steps again in another order.
--
-- Before, an attempt was known again at its place alone: a run that went on in another order did the same step at another place anew, as if
-- nobody had ever begun it. And a number that had been shown for a place was shown there again for another step, so that the late result of
-- the lost one counted for it.
--
--   step comes again ─▶ same activity and input, wherever it stood: its result, or in doubt │ same activity at the same place: in doubt
--   step at a place where attempts were shown for another one ─▶ numbers go on behind them

alter table engine.lost_effects add column adopted boolean not null default false;

comment on column engine.lost_effects.adopted is 'A step has taken it over; kept for the numbers that were shown at its place.';

-- Tasks that were just inserted, of runs that have come to a step again.
create or replace function engine.adopt_effects(p_tasks json) returns void
language plpgsql volatile as $$
declare
    v_task  record;
    v_known engine.lost_effects;
    v_shown int;
begin
    for v_task in
        select k.run_id, k.seq, k.activity, encode(sha256(convert_to(k.input::text, 'UTF8')), 'hex') as input_sha256
        from json_to_recordset(p_tasks) as t (run uuid, seq int) join engine.tasks k on k.run_id = t.run and k.seq = t.seq
        where exists (select from engine.lost_effects l where l.run_id = t.run)
        order by k.run_id, k.seq
    loop
        -- The same thing, at its place if it is asked for there, else the first of them; what is asked for with a time or an id of its own
        -- differs each time, and its place must do.
        select l.* into v_known from engine.lost_effects l
        where l.run_id = v_task.run_id and l.activity = v_task.activity and not l.adopted
          and (l.input_sha256 = v_task.input_sha256 or l.seq = v_task.seq)
        order by l.input_sha256 <> v_task.input_sha256, l.seq <> v_task.seq, l.seq
        limit 1;
        if found then
            -- The step that stood here may still come, at another place.
            update engine.lost_effects set adopted = true
            where run_id = v_known.run_id and seq = v_known.seq and input_sha256 = v_task.input_sha256;
            perform engine.adopt_attempt(v_task.run_id, v_task.seq, v_known.attempt,
                                         case when v_known.input_sha256 = v_task.input_sha256 then v_known.outcome end);
        end if;
        -- Whoever still works on another step that stood here is late: his number is not the task's.
        select l.attempt into v_shown from engine.lost_effects l
        where l.run_id = v_task.run_id and l.seq = v_task.seq and (l.activity, l.input_sha256) <> (v_task.activity, v_task.input_sha256);
        if found then
            update engine.tasks set max_attempts = max_attempts + v_shown + 1, attempt = attempt + v_shown + 1
            where run_id = v_task.run_id and seq = v_task.seq;
        end if;
    end loop;
    delete from engine.lost_effects l using engine.runs r
    where r.run_id = l.run_id and r.state not in ('open', 'suspended');
end $$;
