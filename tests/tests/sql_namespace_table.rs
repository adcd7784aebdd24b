//! What each public function asks of its caller in a namespace, by one table, and how it answers one who may not. What grants are is in `sql_namespace_grants`.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context;
use serde_json::json;
use tasker_tests::Scenario;
use tasker_tests::scenario::{failed, refusal};

/// The privilege that a function asks for, and how it answers one who has none in the namespace:
/// - `refused`: 42501, whether the namespace is there or not
/// - `hidden`: as if what it is asked for weren't there; who may read, but not operate or create, is refused instead
/// - `unseen`: so to who may only read, too
/// - `left_out`: without what is in the namespace
/// - `elsewhere`: the same, which is tried in `sql_namespace_sessions`: events are listed when their transaction has ended
///
/// `theirs` in a call is the namespace; what is in braces is a key of something in it. A public function that isn't named here fails the tests: give it its line.
const TABLE: &str = r#"
    apply_to_tasks          operate refused  ('{"namespace": "theirs"}', 'cancel')
    await_events            -       -        ()
    backfill_schedule       operate hidden   ('s', '2030-01-01 00:30+00', '2030-01-01 00:40+00', 'theirs')
    cancel_bulk_job         operate unseen   ({job})
    cancel_task             operate hidden   ({running})
    check_api_key           -       -        ('tsk_x')
    claim_domain_events     work    refused  ('w', 's', '{theirs}', '{*}')
    claim_steps             work    refused  ('w', '{theirs}')
    complete_step           work    hidden   ({held}, 1, '1')
    complete_step_manually  operate hidden   ({held}, '1')
    create_api_key          -       -        ('k', '{*}')
    create_schedule         create  refused  ('other', '@daily', 'one', 'theirs')
    create_task             create  refused  ('one', 'theirs')
    create_tasks            create  refused  ('[{"template_name": "one", "namespace": "theirs"}]')
    dead_letter_stats       read    left_out ()
    delete_schedule         operate hidden   ('s', 'theirs')
    end_of_events           -       -        ()
    explain_task            read    hidden   ({running})
    extend_leases           work    hidden   ('w', '[{"step_uuid": "{held}", "attempt": 1}]')
    get_dependency_results  work    hidden   ({held})
    save_checkpoint         work    hidden   ({held}, 1, '1')
    fail_step               work    hidden   ({held}, 1, '{"message": "m"}')
    finish_domain_events    work    hidden   ('w', '[{"namespace": "theirs", "msg_id": 1, "delivery": 1, "status": "done"}]')
    finish_steps            work    hidden   ('w', '[{"step_uuid": "{held}", "attempt": 1, "status": "complete"}]')
    get_dead_letter         read    hidden   ({letter})
    get_step                read    hidden   ({held})
    get_task                read    hidden   ({running})
    get_template            read    hidden   ('one', 'theirs')
    grant_namespace         -       -        ('tasker_reader', 'theirs', 'read')
    health                  read    left_out ()
    list_api_keys           -       -        ()
    list_bulk_jobs          operate left_out ()
    list_dead_letters       read    left_out ()
    list_dead_letters       read    left_out (resolution => 'pending')
    list_dead_letters       read    hidden   (after => {letter})
    list_domain_events      read    left_out ()
    list_events             read    elsewhere ()
    list_events             read    hidden   (task_uuid => {running})
    list_namespace_grants   -       -        ()
    list_namespaces         read    left_out ()
    list_schedules          read    left_out ()
    list_signals            read    hidden   ({waiting})
    list_steps              read    hidden   ({running})
    list_subscriptions      read    left_out ()
    list_tasks              read    left_out ()
    list_templates          read    left_out ()
    list_workers            read    left_out ()
    open_dead_letter        operate hidden   ({running}, 'r')
    pause_namespace         operate refused  ('theirs')
    pause_schedule          operate hidden   ('s', 'theirs')
    pause_task              operate hidden   ({running})
    queue_stats             read    left_out ()
    redeliver_domain_event  operate hidden   ({event})
    register_template       operate refused  ('{"name": "two", "namespace_name": "theirs", "version": "1.0.0", "steps": []}'::jsonb)
    register_template       operate refused  ('{name: two, namespace_name: theirs, version: 1.0.0, steps: []}'::text)
    register_worker         work    refused  ('w', '{theirs}', '{}', 'rust', '1')
    rerun_task              operate hidden   ({failed})
    reset_step              operate hidden   ({failed_step})
    resolve_dead_letter     operate hidden   ({letter}, 'manually_resolved')
    resolve_step            operate hidden   ({failed_step})
    resume_namespace        operate refused  ('theirs')
    resume_schedule         operate hidden   ('s', 'theirs')
    resume_task             operate hidden   ({paused})
    retire_template         operate hidden   ('one', 'theirs')
    retire_worker           operate hidden   ('w_theirs')
    revoke_api_key          -       -        ('kept')
    revoke_namespace        -       -        ('tasker_reader', 'theirs')
    list_due_jobs           -       -        ()
    run_maintenance         -       -        ()
    run_maintenance_job     -       -        ('forget_answers')
    run_sql_step            -       -        ()
    needs_sql_runners       -       -        ()
    send_signal             create  hidden   ({waiting}, 'go')
    serve_caller            -       -        ('a caller')
    set_namespace           operate refused  ('theirs', '{}')
    slowest_steps           read    left_out ()
    slowest_tasks           read    left_out ()
    stale_tasks             read    left_out ()
    statistics              read    left_out ()
    step_history            read    hidden   ({held})
    list_compensations      read    hidden   ({running})
    subscribe_domain_events work    refused  ('s', '{theirs}', '{*}')
    task_graph              read    hidden   ({running})
    task_history            read    hidden   ({running})
    unsubscribe_domain_events operate refused ('s', 'theirs', '*')
    validate_template       -       -        ('x'::text)
    verify                  read    left_out ()
    verify                  read    hidden   ({running})
    version                 -       -        ()
    work_due_in_ms          work    refused  ('{theirs}')
    worker_heartbeat        work    hidden   ('w_theirs', 0, 1)
"#;

const PRIVILEGES: [&str; 4] = ["read", "create", "work", "operate"];

struct Line {
    function: &'static str,
    privilege: &'static str,
    answer: &'static str,
    arguments: &'static str,
}

fn table() -> Vec<Line> {
    let word = |line: &'static str| line.trim_start().split_once(' ').unwrap_or((line, ""));
    TABLE
        .lines()
        .filter(|line| !line.is_empty())
        .map(|line| {
            let (function, line) = word(line);
            let (privilege, line) = word(line);
            let (answer, line) = word(line);
            Line {
                function,
                privilege,
                answer,
                arguments: line.trim(),
            }
        })
        .collect()
}

/// Keys by the words that stand for them in a call.
type Keys = BTreeMap<&'static str, String>;

/// A namespace with something of every kind in it, older than its tasks may become.
async fn fill(sql: &mut Scenario, namespace: &str) -> anyhow::Result<Keys> {
    sql.clock(0).await?;
    sql.register(&format!(
        "{{name: one, namespace_name: {namespace}, version: 1.0.0, lifecycle: {{max_duration_seconds: 60}}, \
         steps: [{{name: a, handler: {{callable: t.{namespace}}}, retry: {{max_attempts: 1}}, \
         publishes_events: [{{name: a.ended, condition: always}}]}}]}}"
    ))
    .await?;
    sql.run(&format!(
        "select tasker.subscribe_domain_events('s', '{{{namespace}}}', '{{*}}')"
    ))
    .await?;
    sql.register(&format!(
        "{{name: waits, namespace_name: {namespace}, version: 1.0.0, steps: [{{name: go, type: signal, signal: {{name: go}}}}]}}"
    ))
    .await?;
    let waiting = sql.create(&format!("'waits', '{namespace}'")).await?;
    let claim =
        format!("select * from tasker.claim_steps('w', '{{{namespace}}}', lease => '1 day')");
    let create = format!("'one', '{namespace}'");
    let failed_task = sql.create(&create).await?;
    let step = sql.row(&claim).await?;
    let failed_step = step["step_uuid"].as_str().context("a key")?.to_owned();
    sql.finish("w", json!([failed(&step, json!({"message": "m"}))]), 0)
        .await?;
    let letter: String = sql
        .value(&format!(
            "select dead_letter_uuid::text from tasker.list_dead_letters('{namespace}')"
        ))
        .await?;
    let event: String = sql
        .value(&format!(
            "select event ->> 'event_uuid' from tasker.claim_domain_events('w', 's', '{{{namespace}}}', '{{*}}')"
        ))
        .await?;
    let running = sql.create(&create).await?;
    let held = sql.row(&claim).await?["step_uuid"]
        .as_str()
        .context("a key")?
        .to_owned();
    let paused = sql.create(&create).await?;
    sql.run(&format!("select tasker.pause_task('{paused}')"))
        .await?;
    sql.create(&create).await?;
    let job: String = sql
        .value(&format!(
            r#"select job_uuid::text from tasker.apply_to_tasks('{{"namespace": "{namespace}", "states": ["cancelled"]}}', 'rerun', dry_run => false)"#
        ))
        .await?;
    sql.run(&format!(
        "select tasker.create_schedule('s', '* * * * *', 'one', '{namespace}')"
    ))
    .await?;
    sql.run(&format!(
        "select tasker.register_worker('w_{namespace}', '{{{namespace}}}', '{{}}', 'rust', '1')"
    ))
    .await?;
    Ok([
        ("failed", failed_task),
        ("failed_step", failed_step),
        ("letter", letter),
        ("event", event),
        ("running", running),
        ("held", held),
        ("paused", paused),
        ("waiting", waiting),
        ("job", job),
    ]
    .into_iter()
    .collect())
}

/// Keys of nothing.
async fn keys_of_nothing(sql: &mut Scenario, keys: &Keys) -> anyhow::Result<Keys> {
    let mut nothing = Keys::new();
    for &word in keys.keys() {
        let is_step = ["held", "failed_step"].contains(&word);
        let key = if is_step {
            "tasker._step_uuid((tasker._task_uuids(1, tasker._now()))[1], 1)"
        } else {
            "(tasker._task_uuids(1, tasker._now()))[1]"
        };
        nothing.insert(word, sql.value(&format!("select {key}::text")).await?);
    }
    Ok(nothing)
}

/// Two namespaces, a role that may call every public function and may do everything in one of them, and the keys of what is in the other.
async fn prepared() -> anyhow::Result<(Scenario, Keys)> {
    let mut sql = Scenario::new().await?;
    fill(&mut sql, "mine").await?;
    let keys = fill(&mut sql, "theirs").await?;
    // Maintenance folds what is committed.
    sql.run("select tasker._fold(0, 9223372036854775807, null)")
        .await?;
    sql.run(
        "select tasker.create_api_key('kept', '{*}');
         create role tenant;
         grant usage on schema tasker to tenant;
         do $$ declare f regprocedure; begin
           for f in select p.oid::regprocedure from pg_proc p where p.pronamespace = 'tasker'::regnamespace and p.proname !~ '^_' loop
             execute format('grant execute on function %s to tenant', f);
           end loop;
         end $$;
         select tasker.grant_namespace('tenant', 'mine', p) from unnest('{read,create,work,operate}'::text[]) p",
    )
    .await?;
    sql.clock(3_600_000).await?;
    Ok((sql, keys))
}

/// An answer with the names of what was asked for taken out: rows, or a refusal.
type Answer = Result<String, (String, String)>;

/// A call as the tenant, of which nothing stays.
async fn answer(
    sql: &mut Scenario,
    line: &Line,
    keys: &Keys,
    namespace: &str,
) -> anyhow::Result<Answer> {
    let mut arguments = line.arguments.replace("theirs", namespace);
    for (word, key) in keys {
        arguments = arguments
            .replace(&format!("\"{{{word}}}\""), &format!("\"{key}\""))
            .replace(&format!("{{{word}}}"), &format!("'{key}'"));
    }
    sql.run("savepoint before_the_call").await?;
    if line.function == "verify" {
        sql.run("update tasker.tasks set failed = failed + 5")
            .await?;
    }
    sql.run("set local role tenant").await?;
    let call = format!(
        "select coalesce(string_agg(r::text, ' '), '') from tasker.{}{arguments} r",
        line.function
    );
    let answered = sqlx::query_scalar::<_, String>(&call)
        .fetch_one(sql.session())
        .await;
    sql.run("rollback to before_the_call").await?;
    let neutral = |text: String| {
        let mut text = text.replace(namespace, "theirs");
        for (word, key) in keys {
            text = text.replace(key.as_str(), &format!("{{{word}}}"));
        }
        text
    };
    Ok(match answered {
        Ok(rows) => Ok(neutral(rows)),
        Err(error) => {
            let refusal = refusal(&error)?;
            let said = [refusal.message, refusal.detail, refusal.hint].join(" | ");
            Err((refusal.code, neutral(said)))
        }
    })
}

fn code(answer: &Answer) -> &str {
    answer.as_ref().err().map_or("-", |(code, _)| code)
}

fn includes(granted: &str, asked: &str) -> bool {
    granted == asked || (granted, asked) == ("operate", "read")
}

#[tokio::test]
async fn every_public_function_is_in_the_table() -> anyhow::Result<()> {
    let mut sql = Scenario::new().await?;
    let found = sql
        .rows("select distinct p.proname::text as name from pg_proc p where p.pronamespace = 'tasker'::regnamespace and p.proname !~ '^_'")
        .await?;
    let found: BTreeSet<&str> = found
        .iter()
        .filter_map(|row| row["name"].as_str())
        .collect();
    let named: BTreeSet<&str> = table().iter().map(|line| line.function).collect();
    assert_eq!(found, named);
    Ok(())
}

#[tokio::test]
async fn while_nothing_is_checked_no_function_asks_for_a_grant() -> anyhow::Result<()> {
    let (mut sql, keys) = prepared().await?;
    for line in table() {
        let answered = answer(&mut sql, &line, &keys, "theirs").await?;
        assert_eq!(code(&answered), "-", "{}: {answered:?}", line.function);
    }
    sql.verify().await
}

#[tokio::test]
async fn each_function_asks_for_the_privilege_that_the_table_says() -> anyhow::Result<()> {
    let (mut sql, keys) = prepared().await?;
    let nothing = keys_of_nothing(&mut sql, &keys).await?;
    for line in table().iter().filter(|line| line.answer != "elsewhere") {
        let unchecked = answer(&mut sql, line, &keys, "theirs").await?;
        for granted in ["none"].into_iter().chain(PRIVILEGES) {
            sql.run("savepoint before_the_grant; set local tasker.check_namespaces = on")
                .await?;
            if granted != "none" {
                sql.run(&format!(
                    "select tasker.grant_namespace('tenant', 'theirs', '{granted}')"
                ))
                .await?;
            }
            let answered = answer(&mut sql, line, &keys, "theirs").await?;
            let of_nothing = answer(&mut sql, line, &nothing, "nowhere").await?;
            sql.run("rollback to before_the_grant").await?;
            let what = format!(
                "{}{} with {granted}: {answered:?}",
                line.function, line.arguments
            );
            if line.answer == "-" || includes(granted, line.privilege) {
                assert_eq!(code(&answered), code(&unchecked), "{what}");
                if line.answer == "left_out" {
                    assert_eq!(answered, unchecked, "{what}");
                }
                continue;
            }
            assert_ne!(answered, unchecked, "{what}");
            let refused = format!(
                "role tenant lacks the privilege {} in namespace theirs",
                line.privilege
            );
            let is_refused = matches!(&answered, Err((code, said)) if code == "42501" && said.starts_with(&refused));
            match line.answer {
                "refused" => {
                    assert!(is_refused, "{what}");
                    assert_eq!(answered, of_nothing, "{what}");
                }
                "hidden"
                    if line.privilege != "read"
                        && line.privilege != "work"
                        && includes(granted, "read") =>
                {
                    assert!(is_refused, "{what}");
                }
                "hidden" | "unseen" => assert_eq!(answered, of_nothing, "{what}"),
                _ => {
                    let rows =
                        answered.map_err(|(code, said)| anyhow::anyhow!("{code}: {said}"))?;
                    assert!(!rows.contains("theirs"), "{what}");
                    assert!(keys.values().all(|key| !rows.contains(key)), "{what}");
                    assert!(rows.contains("mine") || line.function == "verify", "{what}");
                }
            }
        }
    }
    sql.verify().await
}

/// A limit says nothing of privileges: what is outside of it is answered like a namespace in which nothing is granted.
#[tokio::test]
async fn a_limited_session_is_answered_as_if_nothing_were_granted_elsewhere() -> anyhow::Result<()>
{
    // What reaches beyond any limit.
    const UNLIMITED: [&str; 5] = [
        "create_api_key",
        "grant_namespace",
        "list_api_keys",
        "revoke_api_key",
        "revoke_namespace",
    ];
    let (mut sql, keys) = prepared().await?;
    let nothing = keys_of_nothing(&mut sql, &keys).await?;
    for line in table().iter().filter(|line| line.answer != "elsewhere") {
        let unlimited = answer(&mut sql, line, &keys, "theirs").await?;
        sql.run("savepoint before_the_limit; select tasker.serve_caller('c', '{mine}')")
            .await?;
        let answered = answer(&mut sql, line, &keys, "theirs").await?;
        let of_nothing = answer(&mut sql, line, &nothing, "nowhere").await?;
        sql.run("rollback to before_the_limit").await?;
        let what = format!("{}{}: {answered:?}", line.function, line.arguments);
        if UNLIMITED.contains(&line.function) {
            assert_eq!(code(&answered), "42501", "{what}");
            continue;
        }
        match line.answer {
            "-" => assert_eq!(code(&answered), code(&unlimited), "{what}"),
            "refused" => {
                assert_eq!(code(&answered), "42501", "{what}");
                assert_eq!(answered, of_nothing, "{what}");
            }
            "hidden" | "unseen" => {
                assert_ne!(answered, unlimited, "{what}");
                assert_eq!(answered, of_nothing, "{what}");
            }
            _ => {
                let rows = answered.map_err(|(code, said)| anyhow::anyhow!("{code}: {said}"))?;
                assert!(!rows.contains("theirs"), "{what}");
                assert!(keys.values().all(|key| !rows.contains(key)), "{what}");
                assert!(rows.contains("mine") || line.function == "verify", "{what}");
            }
        }
    }
    sql.verify().await
}

#[tokio::test]
async fn the_page_says_what_the_table_says() -> anyhow::Result<()> {
    let page = include_str!("../../docs/operations/roles.md");
    let mut by_privilege: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for line in table() {
        by_privilege
            .entry(line.privilege)
            .or_default()
            .insert(line.function);
    }
    for (privilege, functions) in by_privilege {
        let functions: Vec<String> = functions.iter().map(|name| format!("`{name}`")).collect();
        let row = format!(
            "| {} | {} |",
            if privilege == "-" { "none" } else { privilege },
            functions.join(", ")
        );
        assert!(page.contains(&row), "not in the page: {row}");
    }
    Ok(())
}
