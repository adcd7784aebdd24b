//! Hostile text through every text, text[] and jsonb parameter of every public function, as the role that may call it: it stays a value, and a refusal has a code of ours.
//! The functions and their parameters are read from the catalogue; a new one is tried without a word here.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use sqlx::Executor;
use tasker_tests::Scenario;
use tasker_tests::scenario::key;

/// One that deletes when its quotes are lost in any of the usual ways, and what upsets formats, patterns, paths, identifiers and arrays.
fn payloads() -> Vec<String> {
    let mut payloads: Vec<String> = [
        "'; drop table tasker.tasks; --",
        "x'); delete from tasker.steps; --",
        "\"; drop schema tasker cascade; --",
        "$$; drop table tasker.tasks; $$",
        "$function$; drop table tasker.tasks; $function$",
        "\\'; drop table tasker.tasks; --",
        "\\",
        "'",
        "\"",
        "%I %L %s %1$s",
        "{\"a\",NULL}",
        "../../etc/passwd",
        "a.b\"c",
        "tasks; --",
        "_",
        "%",
        "\u{1F980}\u{202e}\r\n\t\u{1}",
        "",
    ]
    .map(str::to_owned)
    .to_vec();
    payloads.push("x".repeat(100_000));
    payloads
}

/// Payloads that are JSON but nothing that a parameter expects.
fn json_payloads() -> Vec<Value> {
    let mut values: Vec<Value> = payloads().into_iter().map(Value::String).collect();
    values.extend([
        json!(null),
        json!(true),
        json!(1e300),
        json!([]),
        json!({}),
        json!([[]]),
        json!([{"'; drop table tasker.tasks; --": "\""}]),
        json!({"'; drop table tasker.tasks; --": {"$$": "%I"}}),
    ]);
    values
}

const TEMPLATE: &str = r#"{"name": "other", "namespace_name": "default", "version": "1.0.0", "description": "d",
    "steps": [{"name": "a", "handler": {"callable": "t.a", "initialization": {"k": "v"}}}, {"name": "b", "handler": {"callable": "t.b"}, "dependencies": ["a"]}]}"#;

/// What a parameter is given while another one is tried, by its name; other names have a value by their type.
fn usual_values(task: &str, step: &str) -> BTreeMap<&'static str, String> {
    let held = json!([{"step_uuid": step, "attempt": 1}]).to_string();
    let outcomes = json!([
        {"step_uuid": step, "attempt": 1, "status": "fail", "error": {"message": "m", "type": "t", "detail": {"k": "v"}}, "checkpoint": {"k": "v"}},
        {"step_uuid": step, "attempt": 1, "status": "complete", "result": {"k": "v"}},
    ])
    .to_string();
    let requests = json!([{"template_name": "one", "namespace": "default", "context": {"k": "v"}, "version": "1.0.0", "idempotency_key": "k", "tags": ["t"],
        "run_at": "2030-01-01T00:00:00Z", "initiator": "i", "source_system": "s", "reason": "r", "correlation_id": task}])
    .to_string();
    [
        ("task_uuid", task.to_owned()),
        ("step_uuid", step.to_owned()),
        ("attempt", "1".to_owned()),
        ("name", "one".to_owned()),
        ("template_name", "one".to_owned()),
        ("namespace", "default".to_owned()),
        ("namespaces", "{default}".to_owned()),
        ("worker_id", "w".to_owned()),
        ("definition", TEMPLATE.to_owned()),
        ("requests", requests),
        ("outcomes", outcomes),
        ("steps", held),
        ("error", r#"{"message": "m", "type": "t"}"#.to_owned()),
        ("context", r#"{"k": "v"}"#.to_owned()),
        ("from_step", "a".to_owned()),
        ("action", "cancel".to_owned()),
        ("cron", "@daily".to_owned()),
        ("timezone", "UTC".to_owned()),
        ("catch_up", "one".to_owned()),
        ("filter", r#"{"tags": ["t"]}"#.to_owned()),
        ("role", "tasker_reader".to_owned()),
        ("privilege", "read".to_owned()),
    ]
    .into_iter()
    .collect()
}

fn usual_value_of_type(name: &str) -> Option<&'static str> {
    Some(match name {
        "text" => "x",
        "text[]" => "{x}",
        "jsonb" => "{}",
        "integer" | "bigint" => "1",
        "boolean" => "true",
        "interval" => "30 seconds",
        "timestamp with time zone" => "2030-01-01 00:00:00+00",
        _ => return None,
    })
}

/// The value with each of its texts in turn, keys too, put in the payload's place.
fn with_each_leaf_replaced(value: &Value, payload: &str) -> Vec<Value> {
    match value {
        Value::String(_) => vec![json!(payload)],
        Value::Array(items) => {
            let replaced = items.iter().enumerate().flat_map(|(at, item)| {
                with_each_leaf_replaced(item, payload)
                    .into_iter()
                    .map(move |item| (at, item))
            });
            replaced
                .map(|(at, item)| {
                    let mut items = items.clone();
                    items[at] = item;
                    Value::Array(items)
                })
                .collect()
        }
        Value::Object(fields) => {
            let mut found = Vec::new();
            for (name, field) in fields {
                for field in with_each_leaf_replaced(field, payload) {
                    let mut fields = fields.clone();
                    fields.insert(name.clone(), field);
                    found.push(Value::Object(fields));
                }
            }
            let mut fields = fields.clone();
            fields.insert(payload.to_owned(), json!(payload));
            found.push(Value::Object(fields));
            found
        }
        _ => Vec::new(),
    }
}

/// What a parameter is tried with, as text of its type.
fn tries(name: &str, type_name: &str, usual: Option<&String>) -> Vec<String> {
    let is_template = name == "definition";
    let leaves = |payload: &String| {
        let value = usual
            .and_then(|usual| serde_json::from_str(usual).ok())
            .unwrap_or(Value::Null);
        with_each_leaf_replaced(&value, payload)
            .into_iter()
            .map(|value| value.to_string())
            .collect::<Vec<_>>()
    };
    match type_name {
        "text" if is_template => payloads()
            .iter()
            .flat_map(leaves)
            .chain(payloads())
            .collect(),
        "text" => payloads(),
        "text[]" => {
            let quoted = |payload: &String| {
                format!(
                    "{{\"{}\"}}",
                    payload.replace('\\', "\\\\").replace('"', "\\\"")
                )
            };
            payloads()
                .iter()
                .map(quoted)
                .chain(["{}".to_owned(), "{NULL}".to_owned(), "{{a},{b}}".to_owned()])
                .collect()
        }
        _ => payloads()
            .iter()
            .flat_map(leaves)
            .chain(json_payloads().iter().map(Value::to_string))
            .collect(),
    }
}

/// Every object of the database but the queues of new namespaces, the roles, and whether the rows are there.
const OBJECTS: &str = "
    select string_agg(x.object, ' ' order by x.object)
    from (
      select 'relation ' || c.oid || ' ' || c.oid::regclass || ' ' || c.relkind::text || coalesce(c.relacl::text, '')
      from pg_class c join pg_namespace n on n.oid = c.relnamespace
      where n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
        and not (n.nspname = 'pgmq' and c.relname ~ '^[qa]_worker_[a-z][a-z0-9_]{0,28}_queue($|_)' and c.relname !~ '_worker_default_queue')
      union all select 'function ' || p.oid || ' ' || md5(p::text) from pg_proc p join pg_namespace n on n.oid = p.pronamespace where n.nspname in ('tasker', 'pgmq', 'public')
      union all select 'schema ' || n.oid || ' ' || n.nspname || coalesce(n.nspacl::text, '') from pg_namespace n
      union all select 'role ' || r.oid || ' ' || r.rolname || r.rolsuper from pg_roles r where r.rolname ~ '^(tasker_|pg_)'
      union all select 'extension ' || e.oid || e.extname from pg_extension e
      union all select 'trigger ' || t.oid || t.tgname from pg_trigger t where not t.tgisinternal
      union all select 'tasks ' || exists (select from tasker.tasks) union all select 'steps ' || exists (select from tasker.steps)
      union all select 'templates ' || exists (select from tasker.templates t where t.name = 'one')
    ) x(object)";

struct Parameter {
    name: String,
    type_name: String,
    has_default: bool,
}

struct Callee {
    name: String,
    role: String,
    parameters: Vec<Parameter>,
}

/// The public functions, with the least role that may call each: any of those that have the grant but the admin, who has all.
async fn callees(sql: &mut Scenario) -> anyhow::Result<Vec<Callee>> {
    let rows = sql
        .rows(
            "select p.proname::text as name,
               (select a.grantee::regrole::text from aclexplode(p.proacl) a where a.grantee <> p.proowner
                order by a.grantee::regrole::text = 'tasker_admin', a.grantee::regrole::text limit 1) as role,
               (select jsonb_agg(jsonb_build_object('name', p.proargnames[a.ordinal], 'type', format_type(a.type, null),
                  'has_default', a.ordinal > p.pronargs - p.pronargdefaults) order by a.ordinal)
                from unnest(p.proargtypes::oid[]) with ordinality a(type, ordinal)) as parameters
             from pg_proc p
             where p.pronamespace = 'tasker'::regnamespace and p.proname !~ '^_' and p.pronargs > 0 order by p.proname, p.oid",
        )
        .await?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    Ok(rows
        .iter()
        .map(|row| Callee {
            name: text(&row["name"]),
            role: text(&row["role"]),
            parameters: row["parameters"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|parameter| Parameter {
                    name: text(&parameter["name"]),
                    type_name: text(&parameter["type"]),
                    has_default: parameter["has_default"] == json!(true),
                })
                .collect(),
        })
        .collect())
}

/// A call with one parameter tried, and the values of its places.
fn call_of(
    callee: &Callee,
    tried: &Parameter,
    usual: &BTreeMap<&str, String>,
) -> (String, Vec<Option<String>>) {
    // The first is the tried one's place.
    let mut values = vec![None];
    let mut arguments = vec![format!(
        "\"{}\" => $1::text::{}",
        tried.name, tried.type_name
    )];
    for parameter in callee
        .parameters
        .iter()
        .filter(|parameter| parameter.name != tried.name)
    {
        let named = usual.get(parameter.name.as_str()).cloned();
        if named.is_none() && parameter.has_default {
            continue;
        }
        values.push(named.or_else(|| usual_value_of_type(&parameter.type_name).map(str::to_owned)));
        arguments.push(format!(
            "\"{}\" => ${}::text::{}",
            parameter.name,
            values.len(),
            parameter.type_name
        ));
    }
    (
        format!(
            "select * from tasker.\"{}\"({})",
            callee.name,
            arguments.join(", ")
        ),
        values,
    )
}

/// A code that is told to callers: what they gave is wrong, or isn't there, or not now.
fn is_documented(code: &str) -> bool {
    code.starts_with("TK0") || code.starts_with("22") || ["23505", "40001"].contains(&code)
}

/// Calls as the role, and takes all back. Whether it was accepted, or what is wrong with how it was refused.
async fn attempt(
    sql: &mut Scenario,
    role: &str,
    call: &str,
    values: &[Option<String>],
) -> anyhow::Result<Result<bool, String>> {
    sql.run(&format!("savepoint before_it; set local role {role}"))
        .await?;
    let query = values
        .iter()
        .fold(sqlx::query(call), sqlx::query::Query::bind);
    let answer = match sql.session().execute(query).await {
        Ok(_) => Ok(true),
        Err(sqlx::Error::Database(error)) if is_documented(&error.code().unwrap_or_default()) => {
            Ok(false)
        }
        Err(error) => Err(error.to_string()),
    };
    if answer == Ok(true) {
        sql.run("reset role").await?;
    }
    Ok(answer)
}

#[tokio::test]
async fn hostile_text_in_any_parameter_stays_a_value() -> anyhow::Result<()> {
    let mut sql = Scenario::new().await?;
    sql.register("{name: one, version: 1.0.0, steps: [{name: a, handler: {callable: t.a}}, {name: b, handler: {callable: t.b}, dependencies: [a]}]}")
        .await?;
    let task = sql.create("'one'").await?;
    let step = sql.claim_one().await?;
    let usual = usual_values(&task, key(&step));
    let before: String = sql.value(OBJECTS).await?;
    let (mut calls, mut accepted, mut surprises) = (0, 0, Vec::new());
    for callee in callees(&mut sql).await? {
        let is_tried = |parameter: &&Parameter| {
            ["text", "text[]", "jsonb"].contains(&parameter.type_name.as_str())
        };
        for parameter in callee.parameters.iter().filter(is_tried) {
            let (call, mut values) = call_of(&callee, parameter, &usual);
            for tried in tries(
                &parameter.name,
                &parameter.type_name,
                usual.get(parameter.name.as_str()),
            ) {
                let shown = format!(
                    "{}: {call} with {}",
                    callee.role,
                    tried.chars().take(200).collect::<String>()
                );
                values[0] = Some(tried);
                calls += 1;
                match attempt(&mut sql, &callee.role, &call, &values).await? {
                    Ok(true) => {
                        accepted += 1;
                        let after: String = sql.value(OBJECTS).await?;
                        assert_eq!(after, before, "{shown}");
                    }
                    Ok(false) => {}
                    Err(problem) => surprises.push(format!("{shown}: {problem}")),
                }
                sql.run("rollback to before_it").await?;
            }
        }
    }
    assert!(surprises.is_empty(), "{surprises:#?}");
    // Otherwise hardly anything was tried, or the usual values got nobody past the first check.
    assert!(
        calls > 1000 && accepted > calls / 10,
        "{accepted} of {calls}"
    );
    sql.verify().await
}
