//! The functions of the extension as statements of an upgrade script.

use std::collections::BTreeMap;
use std::fmt::Write;

use sqlx::{FromRow, PgConnection};

/// A function as the catalogue has it.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct Function {
    /// Its name and the types of its arguments: what tells it from others.
    pub signature: String,
    /// What `create or replace` can't change: the result, and the names and the kinds of the arguments.
    pub shape: String,
    /// The statement that makes it.
    pub definition: String,
    /// Its comment.
    pub comment: Option<String>,
    /// The roles that may call it, but for its owner; `public` is one.
    pub callers: Vec<String>,
}

const FUNCTIONS: &str = "select p.oid::regprocedure::text as signature, \
      format('%s %s %s', pg_get_function_result(p.oid), p.proargnames, p.proargmodes) as shape, \
      replace(pg_get_functiondef(p.oid), '''$libdir/tasker''', '''MODULE_PATHNAME''') as definition, obj_description(p.oid, 'pg_proc') as comment, \
      array(select coalesce(nullif(a.grantee, 0)::regrole::text, 'public') from aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a \
        where a.grantee <> p.proowner order by 1) as callers \
    from pg_proc p where p.pronamespace = 'tasker'::regnamespace and p.prokind in ('f', 'p')";

/// The functions in the schema, by their signatures.
pub async fn functions(session: &mut PgConnection) -> anyhow::Result<BTreeMap<String, Function>> {
    let rows: Vec<Function> = sqlx::query_as(FUNCTIONS).fetch_all(session).await?;
    Ok(rows
        .into_iter()
        .map(|function| (function.signature.clone(), function))
        .collect())
}

/// What an upgrade script has to say to turn the functions that are there into those that are wanted: one text for each function that differs.
#[must_use]
pub fn statements_to_reach(
    wanted: &BTreeMap<String, Function>,
    found: &BTreeMap<String, Function>,
) -> Vec<String> {
    let gone = found
        .values()
        .filter(|function| {
            wanted
                .get(&function.signature)
                .is_none_or(|wanted| wanted.shape != function.shape)
        })
        // One that reads a type which is gone was dropped above.
        .map(|function| format!("drop function if exists {};", function.signature));
    let made = wanted
        .values()
        .filter(|function| found.get(&function.signature) != Some(function))
        .map(|function| statements_for(function, found.get(&function.signature)));
    gone.chain(made).collect()
}

fn statements_for(wanted: &Function, found: Option<&Function>) -> String {
    let found = found.filter(|found| found.shape == wanted.shape);
    let signature = &wanted.signature;
    let mut text = String::new();
    if found.is_none_or(|found| found.definition != wanted.definition) {
        let _ = writeln!(text, "{};", wanted.definition.trim_end());
    }
    if found.is_none_or(|found| found.comment != wanted.comment) && wanted.comment.is_some() {
        let comment = wanted.comment.as_deref().unwrap_or_default();
        let _ = writeln!(
            text,
            "comment on function {signature} is '{}';",
            comment.replace('\'', "''")
        );
    }
    // A function made anew may be called by everybody.
    let public = [String::from("public")];
    let callers = found.map_or(&public[..], |found| &found.callers);
    let too_many: Vec<_> = without(callers, &wanted.callers);
    if !too_many.is_empty() {
        let _ = writeln!(
            text,
            "revoke all on function {signature} from {};",
            too_many.join(", ")
        );
    }
    let too_few: Vec<_> = without(&wanted.callers, callers);
    if !too_few.is_empty() {
        let _ = writeln!(
            text,
            "grant execute on function {signature} to {};",
            too_few.join(", ")
        );
    }
    text
}

fn without<'a>(names: &'a [String], others: &[String]) -> Vec<&'a str> {
    names
        .iter()
        .filter(|name| !others.contains(name))
        .map(String::as_str)
        .collect()
}
