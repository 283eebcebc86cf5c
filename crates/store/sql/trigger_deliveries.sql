-- Deliveries, newest first, without their bodies.
-- $1 source or null, $2 limit. Rows: the delivery's columns.
-- Index: trigger_deliveries_pkey or _by_verdict. Locks: none.
select id, source, received_at, verdict, reason, detail, remote, headers::json as headers, body_sha256, body_bytes, alerts
from recovery.trigger_deliveries where source = $1 or $1::text is null order by id desc limit $2
