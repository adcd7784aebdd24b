//! The shipped SQL against the mistakes that are easy to make and hard to see: search paths, rights, missing words.

use tasker_tests::TestDatabase;

/// The names that a catalogue query gives; a rule holds when there are none.
async fn offenders(query: &str) -> anyhow::Result<Vec<String>> {
    let database = TestDatabase::new().await?;
    Ok(sqlx::query_scalar(query).fetch_all(database.pool()).await?)
}

const FUNCTIONS: &str = "from pg_proc p join pg_namespace n on n.oid = p.pronamespace and n.nspname = 'tasker' \
    join pg_language l on l.oid = p.prolang";

#[tokio::test]
async fn every_sql_function_pins_its_search_path_with_pg_temp_last() -> anyhow::Result<()> {
    let found = offenders(&format!(
        "select p.oid::regprocedure::text {FUNCTIONS}
         where l.lanname <> 'c' and not coalesce('search_path=pg_catalog, pg_temp' = any (p.proconfig), false)"
    ))
    .await?;
    assert_eq!(found, Vec::<String>::new());
    Ok(())
}

#[tokio::test]
async fn nothing_in_the_schema_is_open_to_public() -> anyhow::Result<()> {
    let functions = offenders(&format!(
        "select p.oid::regprocedure::text {FUNCTIONS} \
         where has_function_privilege('public', p.oid, 'execute')"
    ))
    .await?;
    assert_eq!(functions, Vec::<String>::new());
    let tables = offenders(
        "select c.oid::regclass::text from pg_class c join pg_namespace n on n.oid = c.relnamespace and n.nspname = 'tasker', \
         lateral aclexplode(coalesce(c.relacl, acldefault('r', c.relowner))) a \
         where c.relkind in ('r', 'p', 'v', 'm') and a.grantee <> c.relowner",
    )
    .await?;
    assert_eq!(tables, Vec::<String>::new());
    Ok(())
}

#[tokio::test]
async fn every_granted_function_borrows_the_owners_rights_and_no_private_one_does()
-> anyhow::Result<()> {
    let found = offenders(&format!(
        "select p.oid::regprocedure::text {FUNCTIONS} \
         where p.prosecdef <> (p.proname !~ '^_')"
    ))
    .await?;
    assert_eq!(found, Vec::<String>::new());
    Ok(())
}

/// A pinned path is set by SQL; the library's functions have none, and would run with the caller's names and the owner's rights.
#[tokio::test]
async fn no_function_of_the_library_borrows_the_owners_rights() -> anyhow::Result<()> {
    let found = offenders(&format!(
        "select p.oid::regprocedure::text {FUNCTIONS} where l.lanname = 'c' and p.prosecdef"
    ))
    .await?;
    assert_eq!(found, Vec::<String>::new());
    Ok(())
}

#[tokio::test]
async fn private_functions_are_granted_to_nobody() -> anyhow::Result<()> {
    let found = offenders(&format!(
        "select p.oid::regprocedure::text {FUNCTIONS}, \
         lateral aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a \
         where p.proname ~ '^_' and a.grantee <> p.proowner"
    ))
    .await?;
    assert_eq!(found, Vec::<String>::new());
    Ok(())
}

#[tokio::test]
async fn every_public_function_is_granted_to_the_admin_role() -> anyhow::Result<()> {
    let found = offenders(&format!(
        "select p.oid::regprocedure::text {FUNCTIONS} \
         where p.proname !~ '^_' and not has_function_privilege('tasker_admin', p.oid, 'execute')"
    ))
    .await?;
    assert_eq!(found, Vec::<String>::new());
    Ok(())
}

#[tokio::test]
async fn every_function_written_in_sql_every_table_and_every_type_has_a_comment()
-> anyhow::Result<()> {
    let functions = offenders(&format!(
        "select p.oid::regprocedure::text {FUNCTIONS} where l.lanname <> 'c' and obj_description(p.oid, 'pg_proc') is null"
    ))
    .await?;
    assert_eq!(functions, Vec::<String>::new());
    let relations = offenders(
        "select c.oid::regclass::text from pg_class c join pg_namespace n on n.oid = c.relnamespace and n.nspname = 'tasker' \
         where (c.relkind = 'r' and obj_description(c.oid, 'pg_class') is null) \
           or (c.relkind = 'c' and c.relname !~ '^_' and obj_description(c.reltype, 'pg_type') is null)",
    )
    .await?;
    assert_eq!(relations, Vec::<String>::new());
    Ok(())
}

#[tokio::test]
async fn only_the_clock_reads_the_clock() -> anyhow::Result<()> {
    let found = offenders(&format!(
        "select p.oid::regprocedure::text {FUNCTIONS} \
         where l.lanname <> 'c' and p.prosrc ~* '\\m(now|clock_timestamp|statement_timestamp|current_timestamp|localtimestamp)\\M\\s*(\\(|$)' \
           and p.prosrc !~* 'tasker\\._now'"
    ))
    .await?;
    assert_eq!(found, Vec::<String>::new());
    Ok(())
}

#[tokio::test]
async fn every_table_and_sequence_is_registered_for_dumps() -> anyhow::Result<()> {
    let found = offenders(
        "select c.oid::regclass::text from pg_class c join pg_namespace n on n.oid = c.relnamespace and n.nspname = 'tasker' \
         where c.relkind in ('r', 'S') \
           and not exists (select from pg_extension e where e.extname = 'tasker' and c.oid = any (e.extconfig))",
    )
    .await?;
    assert_eq!(found, Vec::<String>::new());
    Ok(())
}

#[tokio::test]
async fn constraints_are_named_as_statements_and_not_by_postgresql() -> anyhow::Result<()> {
    let found = offenders(
        "select c.conname::text from pg_constraint c join pg_namespace n on n.oid = c.connamespace and n.nspname = 'tasker' \
         where c.contype = 'c' and c.conname ~ '_check[0-9]*$'",
    )
    .await?;
    assert_eq!(found, Vec::<String>::new());
    Ok(())
}
