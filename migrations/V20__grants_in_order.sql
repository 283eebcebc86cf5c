-- Whoever grants locks takes all their rows in one order. Before, the rows of one request after the other were taken, and two sweeps whose
-- requests crossed waited for each other until Postgres ended one of them.

create or replace function engine.grant_locks(p_limit int) returns int
language plpgsql volatile as $$
declare
    v_free     bigint[];
    v_names    text[];
    v_request  engine.lock_requests;
    v_granted  int := 0;
    v_grants   json;
begin
    select array_agg(free.id) into v_free from (
        select q.id from engine.lock_requests q
        where not exists (select from engine.locks l where l.resource = any (q.resources) and l.holder_run is not null)
        order by q.id limit p_limit for update skip locked
    ) free;
    select array_agg(distinct name order by name) into v_names
    from engine.lock_requests q cross join unnest(q.resources) as name where q.id = any (v_free);
    insert into engine.locks (resource) select name from unnest(v_names) as name order by 1 on conflict do nothing;
    perform 1 from engine.locks where resource = any (v_names) order by resource for update;
    for v_request in select * from engine.lock_requests where id = any (v_free) order by id loop
        -- Granted a moment ago: to one before it here, or by somebody else since this began.
        continue when exists (select from engine.locks where resource = any (v_request.resources) and holder_run is not null);
        with taken as (
            update engine.locks
            set epoch = epoch + 1, holder_run = v_request.run_id, holder_seq = v_request.seq, granted_at = engine.now()
            where resource = any (v_request.resources)
            returning resource, epoch
        )
        select json_agg(json_build_object('resource', t.resource, 'epoch', t.epoch, 'era', s.era) order by t.resource)
        into v_grants from taken t, engine.store s;
        delete from engine.lock_requests where id = v_request.id;
        insert into engine.inbox (run_id, msg_key, body)
        values (v_request.run_id, 'lock:' || v_request.seq,
                json_build_object('message', 'granted', 'of', v_request.seq, 'grants', v_grants));
        v_granted := v_granted + 1;
    end loop;
    return v_granted;
end $$;
