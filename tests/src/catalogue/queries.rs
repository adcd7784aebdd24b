//! The questions to the catalogue. Each gives rows of three texts: the object, what is said of it, what is said. Nulls are left out.

/// All of them.
pub(super) const ALL: [&str; 11] = [
    EXTENSION, MEMBERS, DUMPED, FUNCTIONS, RELATIONS, COLUMNS, PARTS, SEQUENCES, TYPES, RIGHTS,
    COMMENTS,
];

/// The extension and its schema. The version is not what this is about: it is told by `tasker.version()`.
const EXTENSION: &str = "select 'extension tasker', v.about, v.said \
    from pg_extension e cross join lateral (values ('owner', e.extowner::regrole::text), ('schema', e.extnamespace::regnamespace::text), \
      ('relocatable', e.extrelocatable::text), ('version', e.extversion)) v(about, said) where e.extname = 'tasker' \
    union all select 'schema tasker', 'owner', n.nspowner::regrole::text from pg_namespace n where n.nspname = 'tasker'";

const MEMBERS: &str = "select pg_describe_object(d.classid, d.objid, d.objsubid), 'membership', 'a member of the extension' \
    from pg_depend d join pg_extension e on e.oid = d.refobjid and d.refclassid = 'pg_extension'::regclass \
    where e.extname = 'tasker' and d.deptype = 'e'";

const DUMPED: &str = "select 'relation ' || c.oid::regclass, 'dumped rows', 'all ' || coalesce(r.condition, '') \
    from pg_extension e cross join lateral unnest(e.extconfig, e.extcondition) r(oid, condition) join pg_class c on c.oid = r.oid where e.extname = 'tasker'";

const FUNCTIONS: &str = "select 'function ' || p.oid::regprocedure, v.about, v.said \
    from pg_proc p join pg_language l on l.oid = p.prolang \
    cross join lateral (values ('kind', p.prokind::text), ('arguments', pg_get_function_arguments(p.oid)), ('result', pg_get_function_result(p.oid)), \
      ('language', l.lanname::text), ('body', p.prosrc), ('SQL body', pg_get_function_sqlbody(p.oid)), ('library', p.probin), ('volatility', p.provolatile::text), \
      ('parallel safety', p.proparallel::text), ('strictness', p.proisstrict::text), ('definer', p.prosecdef::text), ('leakproof', p.proleakproof::text), \
      ('cost', p.procost::text), ('rows', p.prorows::text), ('support', nullif(p.prosupport::oid, 0)::regproc::text), ('settings', p.proconfig::text), \
      ('owner', p.proowner::regrole::text)) v(about, said) \
    where p.pronamespace = 'tasker'::regnamespace and v.said is not null";

const RELATIONS: &str = "select 'relation ' || c.oid::regclass, v.about, v.said \
    from pg_class c left join pg_am a on a.oid = c.relam left join pg_class toast on toast.oid = c.reltoastrelid \
    cross join lateral (values ('kind', c.relkind::text), ('persistence', c.relpersistence::text), ('options', (select array_agg(o order by o) from unnest(c.reloptions) o)::text), \
      ('access method', a.amname::text), ('owner', c.relowner::regrole::text), ('partition key', case when c.relkind = 'p' then pg_get_partkeydef(c.oid) end), \
      ('partition bound', pg_get_expr(c.relpartbound, c.oid)), ('parent', (select i.inhparent::regclass::text from pg_inherits i where i.inhrelid = c.oid)), \
      ('replica identity', c.relreplident::text), ('row security', format('%s %s', c.relrowsecurity, c.relforcerowsecurity)), \
      ('options of the toast table', toast.reloptions::text), ('view', case when c.relkind in ('v', 'm') then pg_get_viewdef(c.oid) end)) v(about, said) \
    where c.relnamespace = 'tasker'::regnamespace and v.said is not null";

/// The place of a field counts in composite types: rows of them are written and read by it. The option `pg_attver` is PostgreSQL's own: minor releases of 2026 number what they make.
const COLUMNS: &str = "select format('column %s.%I', c.oid::regclass, a.attname), v.about, v.said \
    from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped \
    left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum \
    cross join lateral (values ('type', format_type(a.atttypid, a.atttypmod)), ('not null', a.attnotnull::text), ('default', pg_get_expr(d.adbin, d.adrelid)), \
      ('identity', nullif(a.attidentity::text, '')), ('generated', nullif(a.attgenerated::text, '')), ('storage', a.attstorage::text), ('compression', nullif(a.attcompression::text, '')), \
      ('collation', nullif(a.attcollation, 0)::regcollation::text), ('statistics', coalesce(a.attstattarget, -1)::text), ('options', (select array_agg(o order by o) from unnest(a.attoptions) o where o not like 'pg\\_attver=%')::text), \
      ('place', case when c.relkind = 'c' then (select count(*) from pg_attribute b where b.attrelid = c.oid and b.attnum > 0 and b.attnum <= a.attnum and not b.attisdropped)::text end) \
    ) v(about, said) \
    where c.relnamespace = 'tasker'::regnamespace and c.relkind in ('r', 'p', 'c', 'v', 'm') and v.said is not null";

/// What hangs on a table: constraints (but those that say not null, which the column says), indexes, triggers, rules.
const PARTS: &str = "select format('constraint %I of %s', k.conname, coalesce(nullif(k.conrelid, 0)::regclass::text, k.contypid::regtype::text)), 'definition', \
      pg_get_constraintdef(k.oid) || case when k.convalidated then '' else ' not valid' end \
    from pg_constraint k where k.connamespace = 'tasker'::regnamespace and k.contype <> 'n' \
    union all select 'index ' || x.indexrelid::regclass, v.about, v.said \
    from pg_index x join pg_class c on c.oid = x.indexrelid and c.relnamespace = 'tasker'::regnamespace \
    cross join lateral (values ('definition', pg_get_indexdef(x.indexrelid)), ('flags', format('%s %s %s %s', x.indisvalid, x.indisready, x.indisreplident, x.indisclustered))) v(about, said) \
    union all select format('trigger %I of %s', t.tgname, t.tgrelid::regclass), 'definition', pg_get_triggerdef(t.oid) || ' ' || t.tgenabled::text \
    from pg_trigger t join pg_class c on c.oid = t.tgrelid and c.relnamespace = 'tasker'::regnamespace where not t.tgisinternal \
    union all select format('rule %I of %s', r.rulename, r.ev_class::regclass), 'definition', pg_get_ruledef(r.oid) \
    from pg_rewrite r join pg_class c on c.oid = r.ev_class and c.relnamespace = 'tasker'::regnamespace \
    union all select format('policy %I of %s', p.policyname, p.tablename), 'definition', to_jsonb(p)::text from pg_policies p where p.schemaname = 'tasker'";

const SEQUENCES: &str = "select 'relation ' || s.seqrelid::regclass, v.about, v.said \
    from pg_sequence s join pg_class c on c.oid = s.seqrelid and c.relnamespace = 'tasker'::regnamespace \
    cross join lateral (values ('numbers', format('%s start %s step %s from %s to %s cache %s cycle %s', s.seqtypid::regtype, s.seqstart, s.seqincrement, s.seqmin, s.seqmax, s.seqcache, s.seqcycle)), \
      ('column it belongs to', (select pg_describe_object(d.refclassid, d.refobjid, d.refobjsubid) || ' ' || d.deptype::text from pg_depend d \
        where d.classid = 'pg_class'::regclass and d.objid = s.seqrelid and d.refclassid = 'pg_class'::regclass and d.deptype in ('a', 'i')))) v(about, said) \
    where v.said is not null";

const TYPES: &str = "select 'type ' || t.oid::regtype, v.about, v.said \
    from pg_type t \
    cross join lateral (values ('kind', t.typtype::text || t.typcategory::text), ('owner', t.typowner::regrole::text), \
      ('domain', case when t.typtype = 'd' then format('%s %s %s', format_type(t.typbasetype, t.typtypmod), t.typnotnull, t.typdefault) end), \
      ('labels', (select array_agg(e.enumlabel order by e.enumsortorder) from pg_enum e where e.enumtypid = t.oid)::text)) v(about, said) \
    where t.typnamespace = 'tasker'::regnamespace and t.typcategory <> 'A' and v.said is not null";

/// Who may do what, and what of that the extension's scripts gave: `pg_dump` writes only the rest.
const RIGHTS: &str = "with objects (class, oid, part, rights) as ( \
      select 'pg_proc'::regclass, p.oid, 0, p.proacl from pg_proc p where p.pronamespace = 'tasker'::regnamespace \
      union all select 'pg_class'::regclass, c.oid, 0, c.relacl from pg_class c where c.relnamespace = 'tasker'::regnamespace \
      union all select 'pg_class'::regclass, c.oid, a.attnum, a.attacl from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and a.attacl is not null \
        where c.relnamespace = 'tasker'::regnamespace \
      union all select 'pg_type'::regclass, t.oid, 0, t.typacl from pg_type t where t.typnamespace = 'tasker'::regnamespace \
      union all select 'pg_namespace'::regclass, n.oid, 0, n.nspacl from pg_namespace n where n.nspname = 'tasker' \
    ), both_kinds as ( \
      select o.class, o.oid, o.part, 'rights' as about, o.rights from objects o \
      union all select o.class, o.oid, o.part, 'rights by the extension', i.initprivs from objects o \
        join pg_init_privs i on i.classoid = o.class and i.objoid = o.oid and i.objsubid = o.part \
    ) \
    select pg_describe_object(b.class, b.oid, b.part), b.about, \
      coalesce((select string_agg(r.right, ', ' order by r.right) from (select format('%s %s%s', coalesce(nullif(a.grantee, 0)::regrole::text, 'public'), a.privilege_type, \
        case when a.is_grantable then ' with grant' else '' end) as right from aclexplode(b.rights) a) r), 'none') \
    from both_kinds b where b.rights is not null";

const COMMENTS: &str = "with objects (class, oid) as ( \
      select 'pg_proc'::regclass, p.oid from pg_proc p where p.pronamespace = 'tasker'::regnamespace \
      union all select 'pg_class'::regclass, c.oid from pg_class c where c.relnamespace = 'tasker'::regnamespace \
      union all select 'pg_type'::regclass, t.oid from pg_type t where t.typnamespace = 'tasker'::regnamespace \
      union all select 'pg_constraint'::regclass, k.oid from pg_constraint k where k.connamespace = 'tasker'::regnamespace \
      union all select 'pg_namespace'::regclass, n.oid from pg_namespace n where n.nspname = 'tasker' \
      union all select 'pg_extension'::regclass, e.oid from pg_extension e where e.extname = 'tasker' \
    ) \
    select pg_describe_object(d.classoid, d.objoid, d.objsubid), 'comment', d.description from objects o join pg_description d on d.classoid = o.class and d.objoid = o.oid";
