-- Where an item's machines were seen, and since when it runs where it runs.
--
-- What an agent reported before the machine was started elsewhere says nothing about now: both times are this database's.

create table recovery.machines (
    item        text        not null,
    site        text        not null,
    seen        jsonb       not null,
    reported_at timestamptz not null,
    primary key (item, site)
);

alter table recovery.items add column running_since timestamptz;

create function recovery.note_running_since() returns trigger
language plpgsql as $$
begin
    if new.record -> 'state' ->> 'active' is distinct from old.record -> 'state' ->> 'active' then
        new.running_since := engine.now();
    end if;
    return new;
end $$;

create trigger note_running_since before update of record on recovery.items
    for each row execute function recovery.note_running_since();

-- The direction turns with the commit now, no longer with the reprotect that follows: items that were accepted before.
update recovery.items
set record = jsonb_set(record, '{state,direction}', '"reverse"')
where record -> 'state' ->> 'active' = 'recovery' and record -> 'state' ->> 'direction' = 'forward'
  and record -> 'state' -> 'main' ->> 'is' = 'committed';

-- They were started where they run before their last change; without a time nobody would look for their old machines.
update recovery.items set running_since = updated_at where record -> 'state' ->> 'active' = 'recovery';
