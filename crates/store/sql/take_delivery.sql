-- Stores a delivery, what it says of incidents, and who is to look at them; see the function.
-- $1 source, $2 verdict, $3 reason, $4 detail, $5 remote, $6 headers json, $7 sha256 bytea, $8 size, $9 body bytea, $10 alerts json,
-- $11 most refusals kept per minute. One row, or none if there is no such source: delivery or null, verdict, changed.
-- Index: primary keys, trigger_alerts_incident. Locks: accepted: the source's row, then alerts, then wakes; refused: none.
select delivery, verdict, changed from recovery.take_delivery($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
