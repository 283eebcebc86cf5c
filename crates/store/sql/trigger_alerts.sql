-- Incidents, those that were heard of last first.
-- $1 source or null, $2 whether only firing ones, $3 limit. Rows: the alert's columns.
-- Index: trigger_alerts_by_age, trigger_alerts_firing. Locks: none.
select id, source, fingerprint, starts_at, status, first_received_at, last_received_at, resolved_at, labels::json as labels, summary, truncated,
       first_delivery, last_delivery, resolved_delivery, last_body_sha256
from recovery.trigger_alerts
where (source = $1 or $1::text is null) and (status = 'firing' or not $2)
order by last_received_at desc, id desc limit $3
