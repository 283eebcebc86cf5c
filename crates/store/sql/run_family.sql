-- A run with all that began it and all that they began: every run below the topmost one.
-- $1 run uuid, $2 limit bigint. Rows: run_id. Index: runs_pkey, runs_by_parent. Locks: none.
with recursive above as (
    select run_id, parent_run from engine.runs where run_id = $1
    union
    select r.run_id, r.parent_run from above a join engine.runs r on r.run_id = a.parent_run
), family as (
    select a.run_id from above a where not exists (select from above b where b.run_id = a.parent_run)
    union
    select r.run_id from family f join engine.runs r on r.parent_run = f.run_id
)
select run_id from family order by run_id limit $2
