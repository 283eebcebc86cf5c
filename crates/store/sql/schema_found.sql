-- Whether the database is ours, and if not, one of the tables that say whose it is.
-- $1 name of our schema history. One row: ours, foreign_table or null.
-- Index: none. Locks: none.
select to_regclass($1) is not null as ours,
       (select format('%I.%I', n.nspname, c.relname)
        from pg_class c join pg_namespace n on n.oid = c.relnamespace
        where c.relkind in ('r', 'p') and n.nspname not like 'pg\_%' and n.nspname <> 'information_schema'
          and not exists (select from pg_depend d where d.objid = c.oid and d.deptype = 'e')
        order by 1 limit 1) as foreign_table
