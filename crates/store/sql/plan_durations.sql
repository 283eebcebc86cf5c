-- How long the steps of a plan took in its last runs of a work, milliseconds: of each step the middle and the longest.
-- $1 plan, $2 work, $3 of so many runs. Rows: key, middle_ms, longest_ms, runs.
-- Index: plan_runs_by_plan, plan_steps_pkey. Locks: none.
select s.key,
       percentile_disc(0.5) within group (order by d.ms)::bigint as middle_ms,
       max(d.ms)::bigint as longest_ms,
       count(*) as runs
from (select root from recovery.plan_runs where plan = $1 and work = $2 and ended_at is not null order by began_at desc limit $3) r
join recovery.plan_steps s on s.root = r.root and s.state in ('done', 'put-back')
cross join lateral (select extract(epoch from s.ended_at - s.began_at) * 1000 as ms) d
group by s.key
order by s.key
