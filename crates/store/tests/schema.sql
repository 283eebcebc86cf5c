-- Everything in our schemas, a line each, in an order that does not depend on the order of creation.
with ours as (
    select oid, nspname from pg_namespace where nspname in ('engine', 'recovery')
)
select line from (
    select format('%s.%s %s %s%s%s', n.nspname, c.relname, a.attname, format_type(a.atttypid, a.atttypmod),
                  case when a.attnotnull then ' not null' end, ' default ' || pg_get_expr(d.adbin, d.adrelid)) as line,
           1 as part, n.nspname || '.' || c.relname || to_char(a.attnum, '000') as place
    from pg_attribute a
    join pg_class c on c.oid = a.attrelid and c.relkind in ('r', 'p') and not c.relispartition
    join ours n on n.oid = c.relnamespace
    left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
    where a.attnum > 0 and not a.attisdropped
    union all
    select format('%s.%s %s', n.nspname, c.relname, array_to_string(c.reloptions, ', ')), 2, n.nspname || '.' || c.relname
    from pg_class c join ours n on n.oid = c.relnamespace
    where c.relkind in ('r', 'p') and c.reloptions is not null and not c.relispartition
    union all
    select format('%s.%s partition %s', n.nspname, c.relname, pg_get_expr(c.relpartbound, c.oid)), 3, n.nspname || '.' || c.relname
    from pg_class c join ours n on n.oid = c.relnamespace where c.relkind = 'r' and c.relispartition
    union all
    select format('%s.%s check %s', n.nspname, c.relname, pg_get_constraintdef(k.oid)), 4, n.nspname || '.' || c.relname || k.conname
    from pg_constraint k join pg_class c on c.oid = k.conrelid join ours n on n.oid = c.relnamespace
    where k.contype in ('c', 'f') and not c.relispartition
    union all
    select pg_get_indexdef(i.indexrelid), 5, n.nspname || '.' || c.relname || i.indexrelid::regclass
    from pg_index i join pg_class c on c.oid = i.indrelid join ours n on n.oid = c.relnamespace where not c.relispartition
    union all
    select format('%s.%s(%s) returns %s, body %s', n.nspname, p.proname, pg_get_function_identity_arguments(p.oid),
                  pg_get_function_result(p.oid), md5(pg_get_functiondef(p.oid))), 6, n.nspname || '.' || p.proname
    from pg_proc p join ours n on n.oid = p.pronamespace
) lines
order by part, place collate "C"
