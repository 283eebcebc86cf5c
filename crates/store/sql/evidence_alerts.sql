-- Alerts of some sources that were heard of lately, newest first, with what a policy answered to each.
-- $1 policy, $2 sources text[], $3 look back in seconds float8, $4 limit. Rows: the alert's columns, body_sha256, answer.
-- Index: trigger_alerts_by_age, trigger_deliveries_pkey, trigger_answers_pkey. Locks: none.
select a.id, a.source, a.fingerprint, a.starts_at, a.status, a.first_received_at, a.last_received_at, a.resolved_at, a.labels,
       a.summary, a.truncated, encode(d.body_sha256, 'hex') as body_sha256, n.answer
from recovery.trigger_alerts a
left join recovery.trigger_deliveries d on d.id = a.last_delivery
left join recovery.trigger_answers n on n.policy = $1 and n.alert = a.id
where a.source = any ($2) and a.last_received_at > engine.now() - make_interval(secs => $3)
order by a.last_received_at desc, a.id desc limit $4
