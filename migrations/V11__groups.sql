-- Replication groups: which items share moments, and which points were taken at one.
--
-- An item's record says in which group it is. The table is written with the record, by a trigger, so that it holds what the records
-- hold; its key keeps an item from being in two groups. While a group is being changed its members know different definitions.

create table recovery.group_members (
    item       text        primary key,
    group_name text        not null,
    definition jsonb       not null,
    updated_at timestamptz not null
);

create index group_members_by_group on recovery.group_members (group_name, item);

create function recovery.note_group() returns trigger
language plpgsql as $$
begin
    if new.record -> 'group' is null then
        delete from recovery.group_members where item = new.name;
    else
        insert into recovery.group_members (item, group_name, definition, updated_at)
        values (new.name, new.record -> 'group' ->> 'name', new.record -> 'group', engine.now())
        on conflict (item) do update
        set group_name = excluded.group_name, definition = excluded.definition, updated_at = excluded.updated_at
        where group_members.definition is distinct from excluded.definition;
    end if;
    return null;
end $$;

create trigger note_group after insert or update of record on recovery.items
    for each row execute function recovery.note_group();

alter table recovery.points
    add column group_name text,
    add column moment     text,
    add constraint points_moment_of_group check ((group_name is null) = (moment is null));
