-- The lost tail: a server that comes back without its last commits, as a standby that was behind or a backup of yesterday.
--
--   started anew ─▶ SB005 to whoever writes ─▶ witnesses testify ─▶ compared: what they saw is here │ held │ put back │ lost ─▶ known; era
--
-- Rules: 1. Who started the server is part of every fence: no row of runs, events, tasks or inboxes is written under a server that is not
-- known. 2. Contents decide, not positions in the log: a witness says what it was told or did, and that is here or it is not. 3. A run that
-- lacks something is held: nobody claims it or its tasks until a person settles it. 4. Leases end with the server they were given by, but for
-- agents that have testified: whoever owned runs reads their histories anew. 5. The era grows last, past all that were shown: until then old
-- tokens protect the outside.
-- Beside it: words to relatives are heard in the order in which they were told, and a task may have an input of JSON null.
-- Errors raised from now on: SB005 this server is not known yet.

alter table engine.store
    add column started_at  timestamptz default pg_postmaster_start_time(),
    add column known_at    timestamptz default engine.now(),
    add column asked_start timestamptz,
    add column asked_since timestamptz,
    add column era_seen    bigint not null default 0;

update engine.store set timeline = substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8);

comment on column engine.store.started_at is 'Start of the server that was found to hold what witnesses have seen; another one is not known.';
comment on column engine.store.asked_start is 'Start of the server that witnesses are asked about, since asked_since.';
comment on column engine.store.era_seen is 'Newest era of a token that a witness has shown to the outside; another copy of the store may have begun it.';

-- Who can say what was committed: workers and servers what they were told, agents what they have done. One that is awaited has shown a sign
-- of life shortly before the server went away.
create table engine.witnesses (
    witness      uuid        primary key,
    kind         text        not null check (kind in ('worker', 'server', 'agent')),
    name         text        not null,
    seen_at      timestamptz not null,
    testified_to timestamptz,
    awaited      boolean     not null default false,
    silent_at    timestamptz
);

-- What a witness saw and is not here. Mark: hash, key of a message, or attempt.
create table engine.losses (
    run_id     uuid        not null,
    what       text        not null check (what in ('run', 'shorter', 'differs', 'message', 'effect')),
    seq        int         not null,
    mark       text        not null,
    became     text        not null check (became in ('held', 'lost', 'ended', 'adopted')),
    about      text,
    witness    uuid        not null,
    found_at   timestamptz not null,
    settled_at timestamptz,
    settled_by text,
    settled    text check (settled in ('go_on', 'cancel', 'accept_loss')),
    reason     text,
    primary key (run_id, what, seq, mark),
    check ((settled_at is null) = (settled_by is null) and (settled_at is null) = (settled is null))
);

create table engine.held (
    run_id  uuid        primary key,
    held_at timestamptz not null
);

-- Attempts that somebody has begun outside and whose tasks are not here: born in doubt when the run comes to the same step again, or answered
-- with the result that was accepted once.
create table engine.lost_effects (
    run_id       uuid   not null,
    seq          int    not null,
    activity     text   not null,
    input_sha256 text   not null,
    attempt      int    not null,
    run_epoch    bigint not null,
    outcome      json,
    primary key (run_id, seq)
);

-- Children that are gone with the turn of their parents that asked for them. Asked for again they have other ids, which hold the time of the
-- asking; what was done for the lost one was done for them.
create table engine.lost_children (
    child  uuid primary key,
    parent uuid not null,
    seq    int  not null
);

create index lost_children_by_parent on engine.lost_children (parent, seq);

-- The fence ------------------------------------------------------------------------------------------------------------------

create function engine.known_server() returns void
language plpgsql volatile as $$
begin
    if not exists (select from engine.store where started_at = pg_postmaster_start_time())
       and current_setting('switchback.reconciling', true) is distinct from 'on' then
        raise exception using errcode = 'SB005',
            message = 'the database server was started anew, and whether it holds all that it had answered for is being found out';
    end if;
end $$;

create or replace function engine.fence(p_worker uuid, p_epoch bigint) returns void
language plpgsql volatile as $$
begin
    perform 1 from engine.leases where worker_id = p_worker and epoch = p_epoch for key share;
    if not found then
        raise exception using errcode = 'SB001', message = format('the lease of worker %s epoch %s is gone', p_worker, p_epoch);
    end if;
    perform engine.known_server();
end $$;

-- For those who write without a lease: results, messages, sweeps, starts.
create function engine.only_a_known_server() returns trigger
language plpgsql as $$
begin
    perform engine.known_server();
    return null;
end $$;

create trigger only_a_known_server before insert or update or delete on engine.runs
    for each statement execute function engine.only_a_known_server();
create trigger only_a_known_server before insert or update or delete on engine.events
    for each statement execute function engine.only_a_known_server();
create trigger only_a_known_server before insert or update or delete on engine.tasks
    for each statement execute function engine.only_a_known_server();
create trigger only_a_known_server before insert or update or delete on engine.inbox
    for each statement execute function engine.only_a_known_server();

-- Finding out ----------------------------------------------------------------------------------------------------------------

-- Whoever has shown a sign of life within a minute of the last one that is recorded was alive when the server went away.
create function engine.look_into_start() returns void
language plpgsql volatile as $$
begin
    update engine.store set asked_start = pg_postmaster_start_time(), asked_since = engine.now()
    where started_at is distinct from pg_postmaster_start_time() and asked_start is distinct from pg_postmaster_start_time();
    if found then
        update engine.witnesses set awaited = seen_at > (select max(seen_at) from engine.witnesses) - interval '60 s';
    end if;
end $$;

-- A sign of life; gives whether the witness is to testify.
create function engine.hear_witness(p_witness uuid, p_kind text, p_name text) returns boolean
language plpgsql volatile as $$
begin
    perform engine.look_into_start();
    insert into engine.witnesses as w (witness, kind, name, seen_at) values (p_witness, p_kind, p_name, engine.now())
    on conflict (witness) do update set seen_at = excluded.seen_at, kind = excluded.kind, name = excluded.name
    where w.seen_at < excluded.seen_at - interval '5 s' or w.name <> excluded.name;
    return not exists (select from engine.witnesses where witness = p_witness and testified_to = pg_postmaster_start_time());
end $$;

-- Nobody's until it is settled: the lease of whoever owns it ends, since what he believes of it is not so.
create function engine.hold(p_run uuid) returns void
language plpgsql volatile as $$
declare
    v_run engine.runs;
begin
    select * into v_run from engine.runs where run_id = p_run for update;
    if v_run.state not in ('open', 'suspended') then
        return;
    end if;
    insert into engine.held (run_id, held_at) values (p_run, engine.now()) on conflict do nothing;
    if v_run.owner is not null then
        delete from engine.leases where worker_id = v_run.owner and epoch = v_run.owner_epoch;
        update engine.runs set owner = null, owner_epoch = null where run_id = p_run;
    end if;
end $$;

create function engine.find_lost(p_witness uuid, p_run uuid, p_what text, p_seq int, p_mark text, p_became text, p_about text) returns void
language sql volatile as $$
    insert into engine.losses (run_id, what, seq, mark, became, about, witness, found_at)
    values (p_run, p_what, p_seq, p_mark, p_became, p_about, p_witness, engine.now())
    on conflict do nothing
$$;

-- Puts a run back that was accepted and is not here, as it was when it was asked for; false if another one is about the same now.
create function engine.put_back(p_run uuid, p_start json) returns boolean
language plpgsql volatile as $$
begin
    insert into engine.runs (run_id, workflow, workflow_id, requested_by, trace, started_at, epoch)
    select p_run, p_start ->> 'workflow', p_start ->> 'workflow_id', p_start ->> 'requested_by', p_start ->> 'trace', engine.now(),
           coalesce((select max(run_epoch) from engine.lost_effects where run_id = p_run), 0)
    on conflict do nothing;
    if not found then
        return false;
    end if;
    insert into engine.inbox (run_id, msg_key, body) values (p_run, 'start', p_start);
    return true;
end $$;

create function engine.compare_runs(p_witness uuid, p_runs json) returns int
language plpgsql volatile as $$
declare
    v_note  record;
    v_found int := 0;
    v_what  text;
    v_about text;
    v_became text;
begin
    for v_note in
        select n.run, n.seq, coalesce(n.hash, '') as hash, n.start, r.run_id is not null as there, r.state, r.workflow_id, e.run_id is not null as other
        from json_to_recordset(p_runs) as n (run uuid, seq int, hash text, start json)
        left join engine.runs r on r.run_id = n.run
        left join engine.events e on e.run_id = n.run and e.seq = n.seq
        where (r.run_id is null or n.seq >= 0 and e.hash is distinct from decode(n.hash, 'hex'))
          and not exists (select from engine.losses f where f.run_id = n.run and f.what in ('run', 'shorter', 'differs') and f.seq = n.seq
                          and f.mark = coalesce(n.hash, ''))
        order by n.run
    loop
        v_what := case when not v_note.there then 'run' when v_note.other then 'differs' else 'shorter' end;
        v_about := coalesce(v_note.workflow_id, v_note.start ->> 'workflow_id');
        if not v_note.there and v_note.start ->> 'parent' is not null then
            insert into engine.lost_children (child, parent, seq)
            values (v_note.run, (v_note.start #>> '{parent,run}')::uuid, (v_note.start #>> '{parent,seq}')::int)
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

-- A message that was accepted and is neither waiting nor in the history is sent again: it counts once.
create function engine.compare_messages(p_witness uuid, p_messages json) returns int
language plpgsql volatile as $$
declare
    v_note  record;
    v_found int := 0;
begin
    for v_note in
        select n.run, n.key, n.body, r.run_id is not null as there, r.workflow_id
        from rows from (json_to_recordset(p_messages) as (run uuid, key text, body json)) with ordinality as n (run, key, body, place)
        left join engine.runs r on r.run_id = n.run
        where (r.run_id is null or r.state in ('open', 'suspended'))
          and not exists (select from engine.inbox i where i.run_id = n.run and i.msg_key = n.key)
          and not exists (select from engine.events e where e.run_id = n.run and e.msg_key = n.key)
          and not exists (select from engine.losses f where f.run_id = n.run and f.what = 'message' and f.mark = n.key)
        order by n.place
    loop
        if v_note.there then
            insert into engine.inbox (run_id, msg_key, body) values (v_note.run, v_note.key, v_note.body) on conflict do nothing;
        end if;
        perform engine.find_lost(p_witness, v_note.run, 'message', -1, v_note.key, case when v_note.there then 'adopted' else 'lost' end, v_note.workflow_id);
        v_found := v_found + 1;
    end loop;
    return v_found;
end $$;

-- The claim of the run that asked for this activity with this input by an event; null if the event asks for something else. Events have U+0000
-- where the task that an agent saw has U+FFFD.
create function engine.asked_by(p_event engine.events, p_activity text, p_input_sha256 text) returns bigint
language plpgsql immutable as $$
declare
    v_event   json;
    v_command json;
begin
    if p_event.run_id is null or p_event.kind <> 'activity_scheduled' then
        return null;
    end if;
    v_event := replace(convert_from(p_event.body, 'UTF8'), '\u0000', U&'\FFFD')::json;
    v_command := v_event #> '{body,command}';
    if v_command ->> 'activity' = p_activity and encode(sha256(convert_to((v_command -> 'input')::text, 'UTF8')), 'hex') = p_input_sha256 then
        return (v_event ->> 'run_epoch')::bigint;
    end if;
    return null;
end $$;

-- An attempt whose asking is not here, or was asked for by somebody else since, or that the task does not know of. A task that waits takes it
-- over; where there is none, or one that was begun meanwhile, the run is held.
create function engine.compare_effects(p_witness uuid, p_effects json) returns int
language plpgsql volatile as $$
declare
    v_note   record;
    v_found  int := 0;
    v_became text;
begin
    for v_note in
        select n.*, r.run_id is not null as there, r.state, r.workflow_id,
               asked.by is not null and t.run_id is not null and (asked.by = n.run_epoch or t.attempt < n.attempt) as waits
        from json_to_recordset(p_effects) as n (run uuid, seq int, activity text, input_sha256 text, attempt int, run_epoch bigint, outcome json, accepted boolean)
        left join engine.runs r on r.run_id = n.run
        left join engine.events e on e.run_id = n.run and e.seq = n.seq
        cross join lateral (select engine.asked_by(e, n.activity, n.input_sha256) as by) asked
        left join engine.tasks t on t.run_id = n.run and t.seq = n.seq
        where (asked.by is distinct from n.run_epoch or t.attempt < n.attempt or t.attempt = n.attempt and n.accepted and n.outcome is not null)
          and not exists (select from engine.losses f where f.run_id = n.run and f.what = 'effect' and f.seq = n.seq and f.mark = n.attempt::text)
        order by n.run, n.seq, n.attempt
    loop
        if v_note.waits then
            v_became := 'adopted';
            perform engine.adopt_attempt(v_note.run, v_note.seq, v_note.attempt, case when v_note.accepted then v_note.outcome end);
        else
            v_became := case when not v_note.there then 'lost' when v_note.state in ('open', 'suspended') then 'held' else 'ended' end;
            insert into engine.lost_effects as l (run_id, seq, activity, input_sha256, attempt, run_epoch, outcome)
            values (v_note.run, v_note.seq, v_note.activity, v_note.input_sha256, v_note.attempt, v_note.run_epoch,
                    case when v_note.accepted then v_note.outcome end)
            on conflict (run_id, seq) do update
            set activity = excluded.activity, input_sha256 = excluded.input_sha256, attempt = excluded.attempt, run_epoch = excluded.run_epoch,
                outcome = excluded.outcome
            where (excluded.run_epoch, excluded.attempt) > (l.run_epoch, l.attempt);
            -- The next claim's tokens are to be greater than those that were shown.
            update engine.runs set epoch = v_note.run_epoch where run_id = v_note.run and epoch < v_note.run_epoch;
            if v_became = 'held' then
                perform engine.hold(v_note.run);
            end if;
        end if;
        perform engine.find_lost(p_witness, v_note.run, 'effect', v_note.seq, v_note.attempt::text, v_became, coalesce(v_note.workflow_id || ': ', '') || v_note.activity);
        v_found := v_found + 1;
    end loop;
    return v_found;
end $$;

-- A task of which somebody has made an attempt that is not known here: ended with the result that was accepted once, else in doubt.
create function engine.adopt_attempt(p_run uuid, p_seq int, p_attempt int, p_outcome json) returns void
language plpgsql volatile as $$
begin
    if p_outcome is not null then
        delete from engine.tasks where run_id = p_run and seq = p_seq;
        insert into engine.inbox (run_id, msg_key, body)
        values (p_run, 'task:' || p_seq, json_build_object('message', 'finished', 'of', p_seq, 'outcome', p_outcome))
        on conflict do nothing;
        return;
    end if;
    update engine.tasks
    set attempt = p_attempt, max_attempts = greatest(max_attempts, p_attempt + 1), in_doubt = true, state = 'queued', worker_id = null, lease_epoch = null,
        attempt_deadline = null, heartbeat_at = null
    where run_id = p_run and seq = p_seq and attempt < p_attempt and state <> 'dead';
end $$;

-- Tasks that were just inserted, of runs that have come to a step again.
create function engine.adopt_effects(p_tasks json) returns void
language plpgsql volatile as $$
declare
    v_known record;
begin
    for v_known in
        select l.* from json_to_recordset(p_tasks) as t (run uuid, seq int, activity text, input json)
        join engine.lost_effects l on l.run_id = t.run and l.seq = t.seq and l.activity = t.activity
        order by l.run_id, l.seq
    loop
        perform engine.adopt_attempt(v_known.run_id, v_known.seq, v_known.attempt, (
            select v_known.outcome from engine.tasks k
            where k.run_id = v_known.run_id and k.seq = v_known.seq
              and encode(sha256(convert_to(k.input::text, 'UTF8')), 'hex') = v_known.input_sha256));
        delete from engine.lost_effects where run_id = v_known.run_id and seq = v_known.seq;
    end loop;
end $$;

create function engine.follow_lost_child(p_parent uuid, p_seq int, p_child uuid) returns void
language plpgsql volatile as $$
begin
    insert into engine.lost_effects as l (run_id, seq, activity, input_sha256, attempt, run_epoch, outcome)
    select distinct on (e.seq) p_child, e.seq, e.activity, e.input_sha256, e.attempt, e.run_epoch, e.outcome
    from engine.lost_children c join engine.lost_effects e on e.run_id = c.child
    where c.parent = p_parent and c.seq = p_seq
    order by e.seq, (e.outcome is null), e.attempt desc
    on conflict do nothing;
    delete from engine.lost_effects e using engine.lost_children c where e.run_id = c.child and c.parent = p_parent and c.seq = p_seq;
    update engine.losses f set became = 'adopted'
    from engine.lost_children c where c.parent = p_parent and c.seq = p_seq and f.run_id = c.child and f.settled_at is null;
    delete from engine.lost_children where parent = p_parent and seq = p_seq;
end $$;

-- Greater than all that were shown: of two copies that were promoted one after the other, each of the same state, both would begin the same.
create function engine.next_era(p_store engine.store) returns bigint
language sql immutable as $$
    select greatest(p_store.era, p_store.era_seen) + 1
$$;

-- What a witness has seen, in slices; with the last one it has testified. Gives how much of it is not here.
create function engine.testify(p_witness uuid, p_notes json, p_last boolean) returns int
language plpgsql volatile as $$
declare
    v_found int;
begin
    -- One at a time: what two have seen is found once.
    perform 1 from engine.store for update;
    perform engine.look_into_start();
    perform set_config('switchback.reconciling', 'on', true);
    v_found := engine.compare_runs(p_witness, p_notes -> 'runs') + engine.compare_messages(p_witness, p_notes -> 'messages')
             + engine.compare_effects(p_witness, p_notes -> 'effects');
    perform set_config('switchback.reconciling', 'off', true);
    update engine.store set era_seen = seen.newest
    from (select max(n.era) as newest from json_to_recordset(p_notes -> 'effects') as n (era bigint)) seen
    where era_seen < seen.newest;
    -- Somebody who comes late: what went on meanwhile did so under tokens that are old from now on.
    update engine.store s set era = engine.next_era(s) where started_at = pg_postmaster_start_time() and (v_found > 0 or era_seen > era);
    if p_last then
        update engine.witnesses set testified_to = pg_postmaster_start_time(), awaited = false, silent_at = null where witness = p_witness;
    end if;
    return v_found;
end $$;

-- known: nothing to find out. waiting: for witnesses, at most twenty seconds: agents renew leases every few seconds, processes that died are
-- started again within that time, and whoever is away for longer may be away for good. checked: from now on the server is known.
create function engine.conclude_check() returns text
language plpgsql volatile as $$
declare
    v_store    engine.store;
    v_timeline text := substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8);
    v_system   text := (select system_identifier::text from pg_control_system());
    v_silent   boolean;
    v_lost     boolean;
begin
    if exists (select from engine.store where started_at = pg_postmaster_start_time()) then
        return 'known';
    end if;
    perform engine.look_into_start();
    select * into v_store from engine.store for update;
    if v_store.started_at = pg_postmaster_start_time() then
        return 'known';
    end if;
    v_silent := exists (select from engine.witnesses where awaited);
    if v_silent and engine.now() < v_store.asked_since + interval '20 s' then
        return 'waiting';
    end if;
    delete from engine.leases l
    where not exists (select from engine.witnesses w where w.kind = 'agent' and w.witness = l.worker_id and w.testified_to = pg_postmaster_start_time());
    update engine.witnesses set silent_at = engine.now(), awaited = false where awaited;
    v_lost := v_silent or v_timeline <> v_store.timeline or v_system <> v_store.system_identifier or v_store.era_seen > v_store.era
              or exists (select from engine.losses where found_at >= v_store.asked_since);
    update engine.store
    set started_at = pg_postmaster_start_time(), known_at = engine.now(), timeline = v_timeline, system_identifier = v_system,
        era = case when v_lost then engine.next_era(v_store) else era end, asked_start = null, asked_since = null;
    return 'checked';
end $$;

-- A person has decided what becomes of a run that lacks something. settled | nothing | not_there | held
create function engine.settle(p_run uuid, p_how text, p_by text, p_reason text) returns text
language plpgsql volatile as $$
declare
    v_there boolean := exists (select from engine.runs where run_id = p_run);
begin
    perform engine.known_server();
    perform 1 from engine.losses where run_id = p_run and settled_at is null order by what, seq, mark for update;
    if not found then
        return 'nothing';
    end if;
    if p_how = 'accept_loss' and exists (select from engine.held where run_id = p_run) then
        return 'held';
    end if;
    if p_how <> 'accept_loss' and not v_there then
        return 'not_there';
    end if;
    delete from engine.held where run_id = p_run;
    update engine.losses set settled_at = engine.now(), settled_by = p_by, settled = p_how, reason = p_reason
    where run_id = p_run and settled_at is null;
    return 'settled';
end $$;

-- Starts and messages -------------------------------------------------------------------------------------------------------

-- The share lock keeps the run from being closed between the look and the insert.
create or replace function engine.send(p_run uuid, p_key text, p_body json) returns text
language plpgsql volatile as $$
declare
    v_state text;
begin
    -- Of a run that is not there it is not said before it is found out whether it was lost.
    perform engine.known_server();
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

-- Gives null if the child exists now, else the open run that has the workflow id.
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
                perform engine.follow_lost_child(p_parent, p_seq, p_child);
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

-- Nobody claims what is held --------------------------------------------------------------------------------------------------

create or replace function engine.claim_runs(p_worker uuid, p_epoch bigint, p_limit int) returns table (run_id uuid, epoch bigint)
language plpgsql volatile as $$
#variable_conflict use_column
declare
    v_locked uuid[];
    v_build  text;
    v_rank   bigint;
    v_newest bigint;
begin
    perform engine.fence(p_worker, p_epoch);
    select l.build, coalesce(b.ordinal, 0) into v_build, v_rank
    from engine.leases l left join engine.builds b on b.build = l.build
    where l.worker_id = p_worker and l.epoch = p_epoch;
    -- A run that nobody has claimed yet is the newest build's.
    select coalesce(max(ordinal), 0) into v_newest from engine.builds;
    select array_agg(free.run_id) into v_locked from (
        select r.run_id from engine.runs r
        where r.state = 'open'
          and (r.owner is not null or exists (select from engine.inbox i where i.run_id = r.run_id))
          and not exists (select from engine.leases l where l.worker_id = r.owner and l.epoch = r.owner_epoch)
          and not exists (select from engine.held h where h.run_id = r.run_id)
          and (v_rank = v_newest or r.build is not null and v_rank >= (select b.ordinal from engine.builds b where b.build = r.build))
        order by r.run_id limit p_limit for update skip locked
    ) free;
    return query
        update engine.runs r set owner = p_worker, owner_epoch = p_epoch, epoch = r.epoch + 1, build = coalesce(v_build, r.build)
        where r.run_id = any (v_locked) and r.state = 'open'
          and (r.owner is not null or exists (select from engine.inbox i where i.run_id = r.run_id))
          and not exists (select from engine.leases l where l.worker_id = r.owner and l.epoch = r.owner_epoch)
          and not exists (select from engine.held h where h.run_id = r.run_id)
          and (v_rank = v_newest or r.build is not null and v_rank >= (select b.ordinal from engine.builds b where b.build = r.build))
        returning r.run_id, r.epoch;
end $$;

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
                  and not exists (select from engine.held h where h.run_id = t.run_id)
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

-- Words to relatives, in the order in which they were told ----------------------------------------------------------------------

drop function engine.kin_told(json);

create function engine.kin_told(p_told json) returns table (run_id uuid, msg_key text, body json, place bigint)
language sql stable as $$
    select r.run_id, t.key, t.body, t.place
    from rows from (json_to_recordset(p_told) as (run uuid, of int, key text, body json)) with ordinality as t (run, of, key, body, place)
    join engine.runs r on r.parent_run = t.run and r.parent_seq = t.of
    where t.of is not null
    union all
    select r.parent_run, t.key, t.body, t.place
    from rows from (json_to_recordset(p_told) as (run uuid, of int, key text, body json)) with ordinality as t (run, of, key, body, place)
    join engine.runs r on r.run_id = t.run
    where t.of is null and r.parent_run is not null
$$;

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
        select t.run, t.seq, t.queue, t.activity, coalesce(t.input, 'null'), t.options, t.effect, t.scope, t.lock_grant, t.trace, t.run_epoch,
               t.max_attempts, v_now, v_now, t.start_to_close_ms * interval '1 ms', t.heartbeat_ms * interval '1 ms',
               v_now + t.queue_ms * interval '1 ms', v_now + t.total_ms * interval '1 ms'
        from json_to_recordset(p_rest -> 'tasks') as t (
            run uuid, seq int, queue text, activity text, input json, options jsonb, effect text, scope text, lock_grant jsonb,
            trace text, run_epoch bigint, max_attempts int, start_to_close_ms float8, heartbeat_ms float8, queue_ms float8,
            total_ms float8)
        order by t.run, t.seq;
        if exists (select from engine.lost_effects) then
            perform engine.adopt_effects(p_rest -> 'tasks');
        end if;
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
        order by k.run_id, k.place
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
