-- What a worker asks when it no longer knows what it owns, and what no late answer may change.

-- A claim or release that had no answer holds a key share of the lease until it has ended: the update lock waits for it, and
-- the statement behind it sees what became of it. Without this a claim whose answer is lost leaves runs with a living owner
-- that does not know of them.
create function engine.owned_runs(p_worker uuid, p_epoch bigint) returns table (run_id uuid, epoch bigint)
language plpgsql volatile as $$
#variable_conflict use_column
begin
    perform 1 from engine.leases l where l.worker_id = p_worker and l.epoch = p_epoch for update;
    if not found then
        raise exception using errcode = 'SB001', message = format('the lease of worker %s epoch %s is gone', p_worker, p_epoch);
    end if;
    return query
        select r.run_id, r.epoch from engine.runs r
        where r.state = 'open' and r.owner = p_worker and r.owner_epoch = p_epoch
        order by r.run_id;
end $$;

-- A turn that only sets a run aside has no event, so no key tells that it was sent before: sent again after the run was resumed
-- and has ended, it must not bring it back.
create function engine.an_ended_run_stays_ended() returns trigger
language plpgsql as $$
begin
    raise exception using errcode = 'SB003', message = format('run %s has ended as %s', old.run_id, old.state);
end $$;

create trigger an_ended_run_stays_ended before update of state on engine.runs
    for each row when (old.closed_at is not null) execute function engine.an_ended_run_stays_ended();
