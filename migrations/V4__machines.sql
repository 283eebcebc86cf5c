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
