-- Tests of plans that ended whole, and whose clean-up did, and that are not noted as the last one yet; the newest of each plan.
-- No parameters. Rows: plan, root, sha256, cleaned_at.
-- Index: plan_runs_by_plan, verified_pkey, events primary key. Locks: none.
with whole as (
    select r.*, (select (convert_from(e.body, 'UTF8')::json #>> '{body,command,output,whole}')::boolean
                 from engine.events e where e.run_id = r.root and e.kind = 'run_completed') as whole
    from recovery.plan_runs r
    left join recovery.verified v on v.subject = 'plan:' || r.plan
    where r.ended_at is not null and r.failure is null and r.work in ('test', 'clean-test')
      and (v.verified_at is null or r.ended_at > v.verified_at)
)
select distinct on (t.plan) t.plan, t.root, t.sha256, c.ended_at as cleaned_at
from whole t
join lateral (
    select c.ended_at from whole c
    where c.plan = t.plan and c.work = 'clean-test' and c.whole and c.began_at >= t.ended_at
    order by c.began_at limit 1
) c on true
where t.work = 'test' and t.whole
order by t.plan, t.began_at desc
