-- Alerts of some sources that a policy may mean: heard of lately and firing, or over since lately; newest first, with what the policy
-- answered to each. $1 policy, $2 sources text[], $3 look back of those that fire in seconds float8, $4 limit, $5 labels jsonb[] of
-- which one must be held, $6 look back of those that are over in seconds float8. Rows: the alert's columns, body_sha256, answer.
-- Index: trigger_alerts_by_age, trigger_deliveries_pkey, trigger_answers_pkey. Locks: none.
select a.id, a.source, a.fingerprint, a.starts_at, a.status, a.first_received_at, a.last_received_at, a.resolved_at, a.labels,
       a.summary, a.truncated, encode(d.body_sha256, 'hex') as body_sha256, n.answer
from recovery.trigger_alerts a
left join recovery.trigger_deliveries d on d.id = a.last_delivery
left join recovery.trigger_answers n on n.policy = $1 and n.alert = a.id
where a.source = any ($2) and a.last_received_at > engine.now() - make_interval(secs => $3)
  and (a.status = 'firing' or a.resolved_at > engine.now() - make_interval(secs => $6)) and a.labels @> any ($5)
order by a.last_received_at desc, a.id desc limit $4
