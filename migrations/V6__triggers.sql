-- What monitoring says: who may say it, what was delivered, what it comes to, and who is to look at it.
--
--   delivery ─▶ trigger_deliveries (accepted, ignored, refused)          one transaction: recovery.take_delivery
--                   └─ accepted ─▶ trigger_alerts, trigger_ends ─▶ trigger_wakes of every listener
--
-- Rules: 1. An incident is (source, fingerprint, starts_at); firing goes to resolved and never back, so that deliveries may come
-- twice, late and in any order. 2. Accepted deliveries of a source are taken one after the other, under the lock of its row: what a
-- delivery sees of the source's alerts is all there is. 3. Secrets have a table of their own, which nothing that shows or exports
-- reads. 4. Anybody can send: what is refused is kept in small numbers, and costs no lock.

create table recovery.trigger_sources (
    name       text        primary key,
    kind       text        not null check (kind in ('alertmanager', 'grafana', 'pagerduty', 'cloud-events', 'generic')),
    settings   jsonb       not null,
    enabled    boolean     not null default true,
    created_by text        not null,
    created_at timestamptz not null
);

-- What signs is kept as it is, since nothing else can verify a signature; what is shown is kept as its digest.
create table recovery.trigger_secrets (
    source     text        not null references recovery.trigger_sources (name) on delete cascade,
    number     bigint      generated always as identity,
    secret     bytea,
    sha256     bytea       check (length(sha256) = 32),
    created_by text        not null,
    created_at timestamptz not null,
    primary key (source, number),
    check ((secret is null) <> (sha256 is null))
);

-- Policies that want to hear of a source. A source that somebody listens to is not removed.
create table recovery.trigger_listeners (
    policy text not null,
    source text not null references recovery.trigger_sources (name),
    primary key (policy, source)
);

create index trigger_listeners_by_source on recovery.trigger_listeners (source);

-- The digest and the size are of the body as it came; they are unknown of one that was too large to be read.
create table recovery.trigger_deliveries (
    id          bigint      generated always as identity primary key,
    source      text        not null references recovery.trigger_sources (name) on delete cascade,
    received_at timestamptz not null,
    verdict     text        not null check (verdict in ('accepted', 'ignored', 'refused')),
    reason      text,
    detail      text,
    remote      text        not null,
    headers     jsonb       not null,
    body_sha256 bytea       check (length(body_sha256) = 32),
    body_bytes  bigint,
    body        bytea,
    alerts      int         not null,
    check ((verdict = 'accepted') = (reason is null))
);

create index trigger_deliveries_by_verdict on recovery.trigger_deliveries (source, verdict, id);

-- Labels and summary are those of the first delivery: what never changes, no late delivery changes wrongly. Truncated means that
-- every delivery so far left other alerts out. Deliveries are pruned; their numbers and the digest of the
-- last body stay.
create table recovery.trigger_alerts (
    id                bigint      generated always as identity primary key,
    source            text        not null references recovery.trigger_sources (name) on delete cascade,
    fingerprint       text        not null,
    starts_at         timestamptz,
    status            text        not null check (status in ('firing', 'resolved')),
    first_received_at timestamptz not null,
    last_received_at  timestamptz not null,
    resolved_at       timestamptz,
    labels            jsonb       not null,
    summary           text        not null,
    truncated         boolean     not null,
    first_delivery    bigint      not null,
    last_delivery     bigint      not null,
    resolved_delivery bigint,
    last_body_sha256  bytea       not null check (length(last_body_sha256) = 32),
    check ((status = 'resolved') = (resolved_at is not null)),
    check ((resolved_at is null) = (resolved_delivery is null))
);

create unique index trigger_alerts_incident on recovery.trigger_alerts (source, fingerprint, starts_at) nulls not distinct;
create index trigger_alerts_firing on recovery.trigger_alerts (source, fingerprint) where status = 'firing';
create index trigger_alerts_by_age on recovery.trigger_alerts (last_received_at);

-- Everything of that fingerprint that began until then is over: said by senders whose end does not name a beginning.
create table recovery.trigger_ends (
    source           text        not null references recovery.trigger_sources (name) on delete cascade,
    fingerprint      text        not null,
    until            timestamptz not null,
    last_received_at timestamptz not null,
    primary key (source, fingerprint)
);

-- What a policy has not looked at yet. An incident gives at most one row for its beginning, one for its end, and one for repeats.
create table recovery.trigger_wakes (
    policy      text        not null,
    id          bigint      generated always as identity,
    alert       bigint      not null references recovery.trigger_alerts (id) on delete cascade,
    source      text        not null,
    fingerprint text        not null,
    starts_at   timestamptz,
    what        text        not null check (what in ('firing', 'resolved', 'refreshed')),
    noted_at    timestamptz not null,
    primary key (policy, id)
);

create index trigger_wakes_by_alert on recovery.trigger_wakes (alert, policy);

-- Notes for all listeners that something was said of an alert. That it was said again is noted only where nothing else is: the
-- key-share lock waits for whoever is taking the row away, and finds it gone then.
create function recovery.wake_listeners(p_alert recovery.trigger_alerts, p_what text, p_now timestamptz) returns void
language plpgsql volatile as $$
declare
    v_policy text;
begin
    for v_policy in select policy from recovery.trigger_listeners where source = p_alert.source order by policy loop
        if p_what = 'refreshed' then
            perform 1 from recovery.trigger_wakes where alert = p_alert.id and policy = v_policy for key share;
            continue when found;
        end if;
        insert into recovery.trigger_wakes (policy, alert, source, fingerprint, starts_at, what, noted_at)
        values (v_policy, p_alert.id, p_alert.source, p_alert.fingerprint, p_alert.starts_at, p_what, p_now);
    end loop;
end $$;

-- What one alert of an accepted delivery comes to; gives how many incidents changed. The source's row is locked.
create function recovery.take_alert(p_source text, p_delivery bigint, p_sha256 bytea, p_alert json, p_now timestamptz) returns int
language plpgsql volatile as $$
declare
    v_fingerprint text        := p_alert ->> 'fingerprint';
    v_said        text        := p_alert -> 'said' ->> 'said';
    v_starts_at   timestamptz := (p_alert -> 'said' ->> 'starts_at')::timestamptz;
    v_until       timestamptz := (p_alert -> 'said' ->> 'until')::timestamptz;
    v_over        boolean;
    v_alert       recovery.trigger_alerts;
    v_changed     int := 0;
begin
    if v_said = 'resolved_until' then
        insert into recovery.trigger_ends as e (source, fingerprint, until, last_received_at)
        values (p_source, v_fingerprint, v_until, p_now)
        on conflict (source, fingerprint) do update
        set until = greatest(e.until, excluded.until), last_received_at = excluded.last_received_at;
        for v_alert in
            update recovery.trigger_alerts
            set status = 'resolved', resolved_at = p_now, resolved_delivery = p_delivery, last_received_at = p_now,
                last_delivery = p_delivery, last_body_sha256 = p_sha256
            where source = p_source and fingerprint = v_fingerprint and status = 'firing' and starts_at <= v_until
            returning *
        loop
            perform recovery.wake_listeners(v_alert, 'resolved', p_now);
            v_changed := v_changed + 1;
        end loop;
        return v_changed;
    end if;

    v_over := v_said = 'resolved' or exists (
        select from recovery.trigger_ends where source = p_source and fingerprint = v_fingerprint and until >= v_starts_at);
    insert into recovery.trigger_alerts as a (
        source, fingerprint, starts_at, status, first_received_at, last_received_at, resolved_at, labels, summary, truncated,
        first_delivery, last_delivery, resolved_delivery, last_body_sha256)
    values (
        p_source, v_fingerprint, v_starts_at, case when v_over then 'resolved' else 'firing' end, p_now, p_now,
        case when v_over then p_now end, (p_alert -> 'labels')::jsonb, p_alert ->> 'summary', (p_alert ->> 'truncated')::boolean,
        p_delivery, p_delivery, case when v_over then p_delivery end, p_sha256)
    on conflict (source, fingerprint, starts_at) do update
    set status = case when 'resolved' in (a.status, excluded.status) then 'resolved' else 'firing' end,
        last_received_at = excluded.last_received_at,
        resolved_at = coalesce(a.resolved_at, excluded.resolved_at),
        truncated = a.truncated and excluded.truncated,
        last_delivery = excluded.last_delivery,
        resolved_delivery = coalesce(a.resolved_delivery, excluded.resolved_delivery),
        last_body_sha256 = excluded.last_body_sha256
    returning * into v_alert;
    if v_alert.first_delivery = p_delivery or v_alert.resolved_delivery = p_delivery then
        perform recovery.wake_listeners(v_alert, v_alert.status, p_now);
        return 1;
    end if;
    perform recovery.wake_listeners(v_alert, 'refreshed', p_now);
    return 0;
end $$;

-- Stores a delivery and all that it means. Gives its id and verdict, and how many incidents changed; nothing if there is no such
-- source. The id is null if it is one refusal too many within the last minute, which is then not kept.
create function recovery.take_delivery(
    p_source text, p_verdict text, p_reason text, p_detail text, p_remote text, p_headers json, p_sha256 bytea, p_bytes bigint,
    p_body bytea, p_alerts json, p_most_refused bigint
) returns table (delivery bigint, verdict text, changed int)
language plpgsql volatile as $$
declare
    v_now     timestamptz;
    v_enabled boolean;
    v_alert   json;
begin
    verdict := p_verdict;
    changed := 0;
    if verdict = 'refused' then
        perform 1 from recovery.trigger_sources where name = p_source;
        if not found then
            return;
        end if;
        v_now := engine.now();
        if (select count(*) from (
                select d.received_at from recovery.trigger_deliveries d
                where d.source = p_source and d.verdict = 'refused' order by d.id desc limit p_most_refused) newest
            where newest.received_at > v_now - interval '1 minute') >= p_most_refused
        then
            return next;
            return;
        end if;
    else
        select enabled into v_enabled from recovery.trigger_sources where name = p_source for no key update;
        if not found then
            return;
        end if;
        v_now := engine.now();
        if not v_enabled then
            verdict := 'ignored';
        end if;
    end if;
    insert into recovery.trigger_deliveries as d (
        source, received_at, verdict, reason, detail, remote, headers, body_sha256, body_bytes, body, alerts)
    values (
        p_source, v_now, verdict, case verdict when 'ignored' then 'disabled' else p_reason end, p_detail, p_remote, p_headers, p_sha256,
        p_bytes, p_body, json_array_length(p_alerts))
    returning d.id into delivery;
    if verdict = 'accepted' then
        for v_alert in select value from json_array_elements(p_alerts) loop
            changed := changed + recovery.take_alert(p_source, delivery, p_sha256, v_alert, v_now);
        end loop;
    end if;
    return next;
end $$;
