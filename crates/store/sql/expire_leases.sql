-- Takeover, first half, a transaction of its own: deletes expired leases of others. One under which a batch is in flight is
-- passed over. Nothing within a ttl after the start of the store: nobody could renew while it was away.
-- $1 our worker uuid, $2 our epoch bigint, $3 ttl in seconds float8. Rows: worker_id, epoch.
-- Index: none; the table is small. Locks: the deleted rows, skipping locked ones.
with clock as materialized (
    select engine.now() as at
), expired as materialized (
    select l.worker_id, l.epoch from engine.leases l, clock
    where l.expires_at < clock.at and (l.worker_id, l.epoch) <> ($1, $2)
      and clock.at > pg_postmaster_start_time() + make_interval(secs => $3)
    order by l.worker_id, l.epoch for update of l skip locked
)
delete from engine.leases l using expired, clock
where l.worker_id = expired.worker_id and l.epoch = expired.epoch and l.expires_at < clock.at
returning l.worker_id, l.epoch
