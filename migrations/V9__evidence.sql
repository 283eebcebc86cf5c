-- Anchors: agents note the heads of runs that have ended, and say when what they once noted is not what they are told now.

create index runs_closed on engine.runs (closed_at, run_id) where closed_at is not null;

alter table recovery.agents
    add column anchored_runs bigint,
    add column anchor_alarm  text;
