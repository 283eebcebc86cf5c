-- Readiness: what agents say of themselves and their hosts, which drills have passed and with what, and how each item and plan stands.
--
--   recovery.agents.report ─┐
--   recovery.verified ──────┼─▶ judged by every worker, every minute ─▶ recovery.readiness ─▶ /metrics, `switchback check`
--   items, points … ────────┘
--
-- Rules: 1. All of this can be judged and found again: nothing here is evidence. 2. A time of change is written when what is found
-- changes, not when it is looked at.

alter table recovery.agents
    add column report      jsonb,
    add column reported_at timestamptz;

-- The last drill of an item, or test of a plan, that passed: `item:NAME`, `plan:NAME`.
create table recovery.verified (
    subject     text        primary key,
    run_id      uuid        not null,
    verified_at timestamptz not null,
    fingerprint jsonb       not null
);

create table recovery.readiness (
    subject    text        primary key,
    severity   text        not null check (severity in ('ok', 'unknown', 'warning', 'critical')),
    -- Counts by severity, for monitoring.
    counts     jsonb       not null,
    -- Severity, check and what it is about, of each finding that is not well: what makes a change.
    marks      text[]      not null,
    findings   jsonb       not null,
    -- Since when it is as bad as it is.
    since      timestamptz not null,
    -- Since when exactly this is found.
    changed_at timestamptz not null,
    judged_at  timestamptz not null
);

create index runs_drills on engine.runs (closed_at) where workflow = 'drill' and state = 'completed';
