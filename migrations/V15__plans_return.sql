-- A plan that was removed and comes back: with the text of its first version it was given that version again, with whoever had applied
-- it then, and without its items.

create index plan_items_by_plan on recovery.plan_items (plan);

-- Gives the version, which is the old one if nothing changed.
create or replace function recovery.apply_plan(p_name text, p_text text, p_plan jsonb, p_sha256 bytea, p_items text[], p_by text) returns bigint
language plpgsql volatile as $$
declare
    v_version bigint;
    v_sha256  bytea;
begin
    insert into recovery.plans as p (name, version) values (p_name, 1)
    on conflict (name) do update set version = p.version
    returning version into v_version;
    -- A plan that was just made has no items yet, and no other has none.
    if exists (select from recovery.plan_items where plan = p_name) then
        select sha256 into v_sha256 from recovery.plan_versions where name = p_name and version = v_version;
        if v_sha256 is not distinct from p_sha256 then
            return v_version;
        end if;
    end if;
    -- One that comes back goes on counting: a version means one text for ever.
    select coalesce(max(version) + 1, 1) into v_version from recovery.plan_versions where name = p_name;
    insert into recovery.plan_versions (name, version, text, plan, sha256, applied_by, applied_at)
    values (p_name, v_version, p_text, p_plan, p_sha256, p_by, engine.now());
    update recovery.plans set version = v_version where name = p_name;
    delete from recovery.plan_items where plan = p_name and item <> all (p_items);
    insert into recovery.plan_items (plan, item) select p_name, unnest(p_items) on conflict do nothing;
    return v_version;
end $$;
