-- A delivery's body, as far as it is kept.
-- $1 id. One row or none: body.
-- Index: trigger_deliveries_pkey. Locks: none.
select body from recovery.trigger_deliveries where id = $1
