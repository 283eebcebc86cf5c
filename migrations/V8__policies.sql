-- When alerts may start a failover: policies with all their versions, kill switches, and what evaluations decided.
--
--   apply ──▶ trigger_policies, _versions, _listeners ──▶ trigger_wakes ──▶ evaluation ──recorded──▶ wakes gone, trigger_answers, lock
--
-- Rules: 1. What an evaluation decided is a projection, written with the events that decided it. 2. Whatever may change a judgement
-- leaves a wake in the transaction that changes it.

create table recovery.trigger_policies (
    name           text        primary key,
    version        bigint      not null check (version > 0),
    item           text        not null,
    flap_locked_at timestamptz,
    unlocked_at    timestamptz
);

create table recovery.trigger_policy_versions (
    name       text        not null,
    version    bigint      not null,
    text       text        not null,
    policy     jsonb       not null,
    sha256     bytea       not null check (length(sha256) = 32),
    applied_by text        not null,
    applied_at timestamptz not null,
    primary key (name, version)
);

-- Scope is all, site:NAME or policy:NAME.
create table recovery.kill_switches (
    scope  text        primary key,
    by     text        not null,
    reason text        not null,
    since  timestamptz not null
);

-- An alert is answered once for each policy.
create table recovery.trigger_answers (
    policy      text        not null,
    alert       bigint      not null references recovery.trigger_alerts (id) on delete cascade,
    answer      text        not null,
    run_id      uuid        not null,
    answered_at timestamptz not null,
    primary key (policy, alert)
);

create index trigger_answers_by_alert on recovery.trigger_answers (alert);

-- A wake may also be about no alert: a policy, a switch or a lock was changed.
alter table recovery.trigger_wakes
    alter column alert drop not null,
    alter column source drop not null,
    alter column fingerprint drop not null,
    drop constraint trigger_wakes_what_check,
    add constraint trigger_wakes_what_check check (what in ('firing', 'resolved', 'refreshed', 'policy', 'switch', 'unlocked'));

-- Objects of labels; an alert that holds none of them whole is not meant by the policy, and does not wake it.
alter table recovery.trigger_listeners add column labels jsonb not null default '[{}]';

-- As before, but only those are woken who may mean the alert, and of one that a policy has answered only a new beginning is news to it.
create or replace function recovery.wake_listeners(p_alert recovery.trigger_alerts, p_what text, p_now timestamptz) returns void
language plpgsql volatile as $$
declare
    v_policy text;
begin
    for v_policy in
        select policy from recovery.trigger_listeners l
        where l.source = p_alert.source and exists (select from jsonb_array_elements(l.labels) as w (held) where p_alert.labels @> w.held)
        order by policy
    loop
        if p_what = 'refreshed' then
            perform 1 from recovery.trigger_wakes where alert = p_alert.id and policy = v_policy for key share;
            continue when found;
        end if;
        continue when exists (select from recovery.trigger_answers where policy = v_policy and alert = p_alert.id);
        insert into recovery.trigger_wakes (policy, alert, source, fingerprint, starts_at, what, noted_at)
        values (v_policy, p_alert.id, p_alert.source, p_alert.fingerprint, p_alert.starts_at, p_what, p_now);
    end loop;
end $$;

-- Gives the version, which is the old one if nothing changed; null if one of the sources does not exist.
create function recovery.apply_policy(
    p_name text, p_item text, p_text text, p_policy jsonb, p_sha256 bytea, p_sources text[], p_by text, p_labels jsonb
) returns bigint
language plpgsql volatile as $$
declare
    v_version bigint;
    v_sha256  bytea;
begin
    if (select count(*) from recovery.trigger_sources where name = any (p_sources)) < cardinality(p_sources) then
        return null;
    end if;
    insert into recovery.trigger_policies as p (name, version, item) values (p_name, 1, p_item)
    on conflict (name) do update set item = p.item
    returning version into v_version;
    select sha256 into v_sha256 from recovery.trigger_policy_versions where name = p_name and version = v_version;
    if v_sha256 = p_sha256 then
        return v_version;
    end if;
    if v_sha256 is not null then
        v_version := v_version + 1;
    end if;
    -- A policy that was removed and comes back goes on counting: a version means one text for ever.
    select greatest(v_version, coalesce(max(version) + 1, 1)) into v_version from recovery.trigger_policy_versions where name = p_name;
    insert into recovery.trigger_policy_versions (name, version, text, policy, sha256, applied_by, applied_at)
    values (p_name, v_version, p_text, p_policy, p_sha256, p_by, engine.now());
    update recovery.trigger_policies set version = v_version, item = p_item where name = p_name;
    delete from recovery.trigger_listeners where policy = p_name and source <> all (p_sources);
    -- Who is off hears nothing, so that nothing is looked at for it.
    if p_policy ->> 'mode' = 'off' then
        delete from recovery.trigger_listeners where policy = p_name;
    else
        insert into recovery.trigger_listeners (policy, source, labels) select p_name, unnest(p_sources), p_labels
        on conflict (policy, source) do update set labels = excluded.labels;
    end if;
    insert into recovery.trigger_wakes (policy, what, noted_at) values (p_name, 'policy', engine.now());
    return v_version;
end $$;

create function recovery.remove_policy(p_name text) returns boolean
language plpgsql volatile as $$
begin
    delete from recovery.trigger_policies where name = p_name;
    if not found then
        return false;
    end if;
    delete from recovery.trigger_listeners where policy = p_name;
    delete from recovery.trigger_answers where policy = p_name;
    delete from recovery.trigger_wakes where policy = p_name;
    return true;
end $$;

create function recovery.unlock_policy(p_name text) returns boolean
language plpgsql volatile as $$
begin
    update recovery.trigger_policies set flap_locked_at = null, unlocked_at = engine.now() where name = p_name and flap_locked_at is not null;
    if not found then
        return false;
    end if;
    insert into recovery.trigger_wakes (policy, what, noted_at) values (p_name, 'unlocked', engine.now());
    return true;
end $$;

-- Turning one wakes every policy: which of them it reaches may depend on where their items run now.
create function recovery.turn_kill_switch(p_scope text, p_on boolean, p_by text, p_reason text) returns void
language plpgsql volatile as $$
begin
    if p_on then
        insert into recovery.kill_switches (scope, by, reason, since) values (p_scope, p_by, p_reason, engine.now())
        on conflict (scope) do update set by = excluded.by, reason = excluded.reason, since = excluded.since;
    else
        delete from recovery.kill_switches where scope = p_scope;
    end if;
    insert into recovery.trigger_wakes (policy, what, noted_at)
    select name, 'switch', engine.now() from recovery.trigger_policies order by name;
end $$;

create function recovery.project_item(p_run uuid, p_seq int, p_fact json) returns void
language plpgsql volatile as $$
declare
    v_item   text  := p_fact ->> 'item';
    v_record jsonb := (p_fact -> 'record')::jsonb;
    v_fact   json  := p_fact -> 'fact';
begin
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

create function recovery.project_trigger(p_run uuid, p_fact json) returns void
language plpgsql volatile as $$
declare
    v_policy text := p_fact ->> 'policy';
    v_note   json := p_fact -> 'of';
begin
    case v_note ->> 'note'
        when 'looked', 'noted' then
            delete from recovery.trigger_wakes
            where policy = v_policy and id in (select value::bigint from json_array_elements_text(v_note -> 'wakes'));
        when 'locked' then
            update recovery.trigger_policies set flap_locked_at = engine.now() where name = v_policy and flap_locked_at is null;
        when 'answered' then
            insert into recovery.trigger_answers (policy, alert, answer, run_id, answered_at)
            select v_policy, a.id, v_note ->> 'answer', p_run, engine.now()
            from recovery.trigger_alerts a
            where a.id in (select value::bigint from json_array_elements_text(v_note -> 'alerts'))
            order by a.id
            on conflict do nothing;
        else null;
    end case;
end $$;

-- The write is plain: the lock of whoever records keeps two runs from recording at once, and the key of the event that causes the
-- change keeps one from recording twice.
create or replace function engine.project(p_rows json) returns void
language plpgsql volatile as $$
declare
    v_row record;
begin
    for v_row in
        select r.projection, r.run, r.seq, r.fact
        from rows from (json_to_recordset(p_rows) as (projection text, run uuid, seq int, fact json))
             with ordinality as r (projection, run, seq, fact, place)
        order by r.projection, coalesce(r.fact ->> 'item', r.fact ->> 'policy'), r.place
    loop
        case v_row.projection
            when 'recovery.item' then perform recovery.project_item(v_row.run, v_row.seq, v_row.fact);
            when 'recovery.trigger' then perform recovery.project_trigger(v_row.run, v_row.fact);
            else raise exception using errcode = 'SB003', message = format('no projection is called %s', v_row.projection);
        end case;
    end loop;
end $$;
