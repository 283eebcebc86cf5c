-- Keeps the newest deliveries of each source; older ones go, and before them their bodies.
-- $1 most refused, $2 most others, $3 most bytes of bodies; each of one source. Rows: none.
-- Index: trigger_deliveries_pkey; reads all rows, of which there are few, without their bodies. Locks: rows that go, unless locked.
with placed as materialized (
    select id, source, verdict, body is not null as kept,
           row_number() over (partition by source, verdict = 'refused' order by id desc) as place,
           sum(case when body is not null then body_bytes else 0 end) over (partition by source order by id desc) as total_bytes
    from recovery.trigger_deliveries
), gone as (
    delete from recovery.trigger_deliveries where id in (
        select d.id from recovery.trigger_deliveries d join placed p using (id)
        where p.place > case p.verdict when 'refused' then $1::bigint else $2::bigint end
        for update of d skip locked)
)
update recovery.trigger_deliveries d set body = null from placed p
where d.id = p.id and p.kept and p.total_bytes > $3::bigint
  and p.place <= case p.verdict when 'refused' then $1::bigint else $2::bigint end
