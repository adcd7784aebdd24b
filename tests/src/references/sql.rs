//! The functions and row types of the schema `tasker`, as the catalogue has them.

use std::fmt::Write;

use sqlx::{FromRow, PgConnection};

use super::{MADE, cell};

#[derive(FromRow)]
struct Function {
    name: String,
    arguments: String,
    result: String,
    comment: String,
    callers: Vec<String>,
}

#[derive(FromRow)]
struct Column {
    type_name: String,
    about: Option<String>,
    field: String,
    kind: String,
}

const FUNCTIONS: &str = "select p.proname::text as name, pg_get_function_arguments(p.oid) as arguments, pg_get_function_result(p.oid) as result, \
      coalesce(obj_description(p.oid, 'pg_proc'), '') as comment, \
      array(select r.name from unnest(array['admin', 'operator', 'client', 'worker', 'reader']) with ordinality r(name, ordinal) \
        where has_function_privilege('tasker_' || r.name, p.oid, 'execute') order by r.ordinal) as callers \
    from pg_proc p where p.pronamespace = 'tasker'::regnamespace and p.prokind = 'f' and p.proname !~ '^_' order by p.proname collate \"C\", 2";

const COLUMNS: &str = "select t.typname::text as type_name, obj_description(t.oid, 'pg_type') as about, a.attname::text as field, \
      format_type(a.atttypid, a.atttypmod) as kind \
    from pg_type t join pg_class c on c.oid = t.typrelid and c.relkind = 'c' join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped \
    where t.typnamespace = 'tasker'::regnamespace and t.typname !~ '^_' order by t.typname collate \"C\", a.attnum";

/// The page.
pub async fn sql(session: &mut PgConnection) -> anyhow::Result<String> {
    let functions: Vec<Function> = sqlx::query_as(FUNCTIONS).fetch_all(&mut *session).await?;
    let columns: Vec<Column> = sqlx::query_as(COLUMNS).fetch_all(session).await?;
    let mut page = format!(
        "{MADE}\n# SQL\n\nThe functions of the schema `tasker`. Parameters may be given by name: `select tasker.create_task(template_name => 'order', namespace => 'shop')`. \
         Codes that begin with TK are Tasker's own SQLSTATEs ([errors](errors.md)); any function may be refused with 42501 ([roles](../operations/roles.md)).\n\n## Functions\n"
    );
    for function in &functions {
        let arguments = function
            .arguments
            .replace("pg_catalog.", "")
            .replace("tasker.", "");
        let result = function.result.replace("tasker.", "");
        let callers = function
            .callers
            .iter()
            .map(|caller| format!("`tasker_{caller}`"));
        let callers: Vec<String> = callers.collect();
        let called_by = if callers.is_empty() {
            "its owner".to_owned()
        } else {
            callers.join(", ")
        };
        write!(
            page,
            "\n### {}\n\n```\n{}({arguments})\n  → {result}\n```\n\n{}\n\nCalled by {called_by}.\n",
            function.name, function.name, function.comment
        )?;
    }
    page.push_str("\n## Rows\n");
    let mut last = "";
    for column in &columns {
        if column.type_name != last {
            let about = column.about.as_deref().unwrap_or_default();
            write!(
                page,
                "\n### tasker.{}\n\n{about}\n\n| column | type |\n|---|---|\n",
                column.type_name
            )?;
            last = &column.type_name;
        }
        writeln!(page, "| `{}` | {} |", column.field, cell(&column.kind))?;
    }
    Ok(page)
}
