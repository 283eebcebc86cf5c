-- What witnesses saw and the store lacks, the newest first.
-- $1 run uuid or null for all, $2 also what was settled or needs nobody boolean, $3 limit bigint.
-- Rows: run_id, what, seq, became, about, witness (its name or id), found_at, held, state of the run or null, settled_at, settled_by, settled, reason.
-- Index: losses_pkey, held_pkey, runs_pkey. Locks: none.
select f.run_id, f.what, f.seq, f.became, f.about, coalesce(w.kind || ' ' || w.name, f.witness::text) as witness, f.found_at,
       h.run_id is not null as held, r.state, f.settled_at, f.settled_by, f.settled, f.reason
from engine.losses f
left join engine.witnesses w on w.witness = f.witness
left join engine.held h on h.run_id = f.run_id
left join engine.runs r on r.run_id = f.run_id
where ($1::uuid is null or f.run_id = $1) and ($2 or f.settled_at is null and f.became <> 'adopted')
order by f.found_at desc, f.run_id, f.what, f.seq limit $3
