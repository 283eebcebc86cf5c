-- What is known of protected items and of those who protect them.
--
-- recovery.items is a projection: written with the events that cause it, rebuilt from the histories by `switchback verify`.
-- Points and replication status are reported by the agents from their own journals, which are the truth about them.
-- The rest is registration: sites, agents, tokens, answered requests.

create schema recovery;

create table recovery.items (
    name       text        primary key,
    record     jsonb       not null,
    version    bigint      not null,
    last_run   uuid        not null,
    last_seq   int         not null,
    updated_at timestamptz not null
);

create table recovery.sites (
    name       text        primary key,
    created_at timestamptz not null
);

create table recovery.agents (
    name               text        primary key,
    site               text        not null references recovery.sites (name),
    worker_id          uuid        not null unique,
    certificate_sha256 bytea       not null unique check (length(certificate_sha256) = 32),
    data_address       text,
    build              text,
    enrolled_at        timestamptz not null,
    seen_at            timestamptz
);

create table recovery.points (
    item        text        not null,
    site        text        not null,
    point       bigint      not null check (point > 0),
    consistency text        not null check (consistency in ('crash', 'app')),
    taken_at    timestamptz not null,
    era         bigint      not null,
    grant_epoch bigint      not null,
    size_bytes  bigint      not null check (size_bytes >= 0),
    pinned      boolean     not null,
    withdrawn   boolean     not null,
    reported_at timestamptz not null,
    primary key (item, site, point)
);

create table recovery.replication (
    item        text        not null,
    site        text        not null,
    status      jsonb       not null,
    reported_at timestamptz not null,
    primary key (item, site)
);

create table recovery.api_tokens (
    name         text        primary key,
    role         text        not null check (role in ('viewer', 'operator', 'admin')),
    token_sha256 bytea       not null unique check (length(token_sha256) = 32),
    created_by   text        not null,
    created_at   timestamptz not null
);

create table recovery.enrolment_tokens (
    token_sha256 bytea       primary key check (length(token_sha256) = 32),
    site         text        not null references recovery.sites (name),
    created_by   text        not null,
    created_at   timestamptz not null,
    expires_at   timestamptz not null,
    used_at      timestamptz,
    used_by      text
);

-- A request that is repeated with its key gets its first answer again. The answer is null while the first is being worked on.
create table recovery.idempotency_keys (
    actor          text        not null,
    key            text        not null,
    request_sha256 bytea       not null check (length(request_sha256) = 32),
    status         int,
    answer         json,
    created_at     timestamptz not null,
    primary key (actor, key)
);

create index idempotency_keys_by_age on recovery.idempotency_keys (created_at);

-- A recorded change of an item carries the fact and the record that results from it: the write is plain. The item's lock keeps
-- two runs from recording at once, and the key of the event that causes the change keeps one from recording twice.
create or replace function engine.project(p_rows json) returns void
language plpgsql volatile as $$
declare
    v_row  record;
    v_fact json;
begin
    for v_row in
        select r.projection, r.run, r.seq, r.fact, r.fact ->> 'item' as item, (r.fact -> 'record')::jsonb as item_record
        from rows from (json_to_recordset(p_rows) as (projection text, run uuid, seq int, fact json))
             with ordinality as r (projection, run, seq, fact, place)
        order by item, r.place
    loop
        if v_row.projection <> 'recovery.item' then
            raise exception using errcode = 'SB003', message = format('no projection is called %s', v_row.projection);
        end if;
        insert into recovery.items (name, record, version, last_run, last_seq, updated_at)
        values (v_row.item, v_row.item_record, 1, v_row.run, v_row.seq, engine.now())
        on conflict (name) do update
        set record = excluded.record, version = items.version + 1, last_run = excluded.last_run, last_seq = excluded.last_seq,
            updated_at = excluded.updated_at;
        v_fact := v_row.fact -> 'fact';
        if v_fact ->> 'fact' = 'points_withdrawn' then
            update recovery.points set withdrawn = true
            where item = v_row.item and point <= (v_fact ->> 'up_to')::bigint and not withdrawn
              and site = case v_row.item_record -> 'state' ->> 'direction'
                             when 'forward' then v_row.item_record ->> 'recovery' else v_row.item_record ->> 'primary' end;
        end if;
    end loop;
end $$;
