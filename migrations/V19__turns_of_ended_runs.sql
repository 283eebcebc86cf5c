-- A turn that ends its run and is sent again meets the end before the key of its own events: it is told from rows that the store
-- refuses, so that whoever sent it can ask whether it was stored already.
-- Errors raised from now on: SB004 the run has ended.

create or replace function engine.an_ended_run_stays_ended() returns trigger
language plpgsql as $$
begin
    raise exception using errcode = 'SB004', message = format('run %s has ended as %s', old.run_id, old.state);
end $$;
