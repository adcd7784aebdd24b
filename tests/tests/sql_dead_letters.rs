//! Dead letters as operators work through them: lists, snapshots, opening by hand, what a resolution does to its task.

use serde_json::{Value, json};
use tasker_tests::Scenario;

const BLOCKING: &str = "{name: blocking, version: 1.0.0, lifecycle: {on_failure: block}, steps: [\
    {name: a, handler: {callable: t.a}, retry: {max_attempts: 1}}, {name: b, handler: {callable: t.b}, dependencies: [a]}]}";
const ENDING: &str = "{name: ending, namespace: shop, version: 2.0.0, steps: [{name: a, handler: {callable: t.a}, retry: {max_attempts: 1}}]}";
const UNKNOWN: &str = "018f0000-0000-7000-8000-000000000000";

async fn scenario() -> anyhow::Result<Scenario> {
    let mut sql = Scenario::new().await?;
    sql.register(BLOCKING).await?;
    sql.register(ENDING).await?;
    Ok(sql)
}

/// Creates a task and lets its first step fail for good.
async fn failed_task(sql: &mut Scenario, arguments: &str) -> anyhow::Result<String> {
    let task = sql.create(arguments).await?;
    let steps = sql
        .rows("select * from tasker.claim_steps('w', '{default,shop}', 10)")
        .await?;
    for step in steps {
        sql.run(&format!(
            "select tasker.fail_step({}, {}, '{{\"message\": \"no luck\"}}')",
            step["step_uuid"].to_string().replace('"', "'"),
            step["attempt"]
        ))
        .await?;
    }
    Ok(task)
}

/// The open dead letter of a task.
async fn letter_of(sql: &mut Scenario, task: &str) -> anyhow::Result<String> {
    sql.value(&format!(
        "select dead_letter_uuid::text from tasker.get_dead_letter(task_uuid => '{task}')"
    ))
    .await
}

async fn resolve(sql: &mut Scenario, letter: &str, arguments: &str) -> anyhow::Result<Value> {
    sql.row(&format!(
        "select * from tasker.resolve_dead_letter('{letter}', {arguments})"
    ))
    .await
}

/// The tasks that a list gives, by their place in `tasks`.
async fn listed(
    sql: &mut Scenario,
    tasks: &[String],
    arguments: &str,
) -> anyhow::Result<Vec<usize>> {
    let rows = sql
        .rows(&format!(
            "select task_uuid from tasker.list_dead_letters({arguments})"
        ))
        .await?;
    Ok(rows
        .iter()
        .filter_map(|row| {
            tasks
                .iter()
                .position(|task| row["task_uuid"] == task.as_str())
        })
        .collect())
}

/// The last row of a task's history.
async fn last_transition(sql: &mut Scenario, task: &str) -> anyhow::Result<Value> {
    sql.row(&format!(
        "select * from tasker.task_history('{task}') order by seq desc limit 1"
    ))
    .await
}

#[tokio::test]
async fn a_dead_letter_is_found_by_its_key_and_by_its_task_with_its_snapshot() -> anyhow::Result<()>
{
    let mut sql = scenario().await?;
    let task = failed_task(
        &mut sql,
        "'ending', 'shop', context => '{\"n\": 7}', priority => 5",
    )
    .await?;
    let letter = letter_of(&mut sql, &task).await?;
    let by_task = sql
        .row(&format!(
            "select * from tasker.get_dead_letter(task_uuid => '{task}')"
        ))
        .await?;
    let by_key = sql
        .row(&format!("select * from tasker.get_dead_letter('{letter}')"))
        .await?;
    assert_eq!(by_task, by_key);
    for (name, value) in [
        ("task_uuid", json!(task)),
        ("namespace", json!("shop")),
        ("template_name", json!("ending")),
        ("template_version", json!("2.0.0")),
        ("priority", json!(5)),
        ("task_state", json!("error")),
        ("reason", json!("max_retries_exceeded")),
        ("resolution", json!("pending")),
        ("opened_at", json!("2030-01-01T00:00:00+00:00")),
        ("resolved_at", Value::Null),
        ("note", Value::Null),
    ] {
        assert_eq!(by_key[name], value, "{name}");
    }
    assert_eq!(by_key["error"]["step_name"], "a");
    let snapshot = &by_key["snapshot"];
    assert_eq!(snapshot["task"]["context"], json!({"n": 7}));
    assert_eq!(snapshot["steps"][0]["state"], "error");
    assert_eq!(snapshot["steps"][0]["error"]["message"], "no luck");
    let history = snapshot["history"].as_array().map_or(0, Vec::len);
    assert_eq!(history, 3, "enqueued, started, failed");
    sql.verify().await
}

#[tokio::test]
async fn open_ones_are_listed_in_the_order_of_investigation_in_pages() -> anyhow::Result<()> {
    let mut sql = scenario().await?;
    let mut tasks = Vec::new();
    for (at, priority) in [0, 5, -5, 5, 0].into_iter().enumerate() {
        sql.clock(i64::try_from(at)? * 1000).await?;
        tasks.push(failed_task(&mut sql, &format!("'blocking', priority => {priority}")).await?);
    }
    let order = [1, 3, 0, 4, 2];
    assert_eq!(
        listed(&mut sql, &tasks, "resolution => 'pending'").await?,
        order
    );
    let (mut paged, mut after) = (Vec::new(), "null".to_owned());
    loop {
        let page = sql
            .rows(&format!(
                "select * from tasker.list_dead_letters(resolution => 'pending', after => {after}, \"limit\" => 2)"
            ))
            .await?;
        let Some(last) = page.last() else { break };
        after = format!(
            "'{}'",
            last["dead_letter_uuid"].as_str().unwrap_or_default()
        );
        paged.extend(page.iter().filter_map(|row| {
            tasks
                .iter()
                .position(|task| row["task_uuid"] == task.as_str())
        }));
    }
    assert_eq!(paged, order);
    // The last row of a page that was resolved in between still marks its place.
    let letter = letter_of(&mut sql, &tasks[3]).await?;
    resolve(&mut sql, &letter, "'permanently_failed'").await?;
    let rest = format!("resolution => 'pending', after => '{letter}'");
    assert_eq!(listed(&mut sql, &tasks, &rest).await?, [0, 4, 2]);
    Ok(())
}

#[tokio::test]
async fn all_are_listed_newest_first_and_every_filter_must_hold() -> anyhow::Result<()> {
    let mut sql = scenario().await?;
    let mut tasks = Vec::new();
    for (at, arguments) in ["'blocking'", "'ending', 'shop'", "'blocking'"]
        .into_iter()
        .enumerate()
    {
        sql.clock(i64::try_from(at)? * 1000).await?;
        tasks.push(failed_task(&mut sql, arguments).await?);
    }
    sql.clock(5000).await?;
    let fine = sql.create("'blocking'").await?;
    sql.run(&format!(
        "select tasker.open_dead_letter('{fine}', 'looks odd')"
    ))
    .await?;
    tasks.push(fine);
    let letter = letter_of(&mut sql, &tasks[0]).await?;
    resolve(&mut sql, &letter, "'manually_resolved'").await?;
    for (arguments, found) in [
        ("", vec![3, 2, 1, 0]),
        ("namespace => 'shop'", vec![1]),
        ("namespace => 'nowhere'", vec![]),
        ("reason => 'manual_dlq'", vec![3]),
        ("reason => 'max_retries_exceeded'", vec![2, 1, 0]),
        ("resolution => 'manually_resolved'", vec![0]),
        ("resolution => 'pending'", vec![1, 2, 3]),
        ("resolution => 'pending', namespace => 'shop'", vec![1]),
        (
            "resolution => 'pending', reason => 'max_retries_exceeded'",
            vec![1, 2],
        ),
        ("\"limit\" => 2", vec![3, 2]),
    ] {
        assert_eq!(
            listed(&mut sql, &tasks, arguments).await?,
            found,
            "{arguments}"
        );
    }
    let second = letter_of(&mut sql, &tasks[2]).await?;
    assert_eq!(
        listed(&mut sql, &tasks, &format!("after => '{second}'")).await?,
        [1, 0]
    );
    for (arguments, code) in [
        ("reason => 'bad luck'".to_owned(), "22023"),
        ("resolution => 'open'".to_owned(), "22023"),
        ("\"limit\" => 0".to_owned(), "22023"),
        ("\"limit\" => 1001".to_owned(), "22023"),
        (format!("after => '{UNKNOWN}'"), "TK004"),
    ] {
        let call = format!("select * from tasker.list_dead_letters({arguments})");
        assert_eq!(sql.refused(&call).await?.code, code, "{arguments}");
    }
    sql.verify().await
}

#[tokio::test]
async fn resolving_settles_a_failed_task() -> anyhow::Result<()> {
    let mut sql = scenario().await?;
    for (arguments, from) in [
        ("'blocking'", "blocked_by_failures"),
        ("'ending', 'shop'", "error"),
    ] {
        sql.clock(0).await?;
        let task = failed_task(&mut sql, arguments).await?;
        assert_eq!(sql.task_state(&task).await?, from);
        let letter = letter_of(&mut sql, &task).await?;
        sql.clock(60_000).await?;
        let row = resolve(&mut sql, &letter, "'manually_resolved', 'paid by hand'").await?;
        for (name, value) in [
            ("resolution", json!("manually_resolved")),
            ("task_state", json!("resolved_manually")),
            ("note", json!("paid by hand")),
            ("resolved_at", json!("2030-01-01T00:01:00+00:00")),
        ] {
            assert_eq!(row[name], value, "{name} from {from}");
        }
        assert!(row["resolved_by"].is_string());
        let last = last_transition(&mut sql, &task).await?;
        assert_eq!(
            (
                &last["from_state"],
                &last["event"],
                &last["to_state"],
                &last["metadata"],
                &last["actor"]
            ),
            (
                &json!(from),
                &json!("manual_resolution"),
                &json!("resolved_manually"),
                &json!({"dead_letter_uuid": letter, "note": "paid by hand"}),
                &row["resolved_by"]
            )
        );
        let finished_at: String = sql
            .value(&format!(
                "select to_jsonb(finished_at) #>> '{{}}' from tasker.get_task('{task}')"
            ))
            .await?;
        let expected = if from == "error" {
            "2030-01-01T00:00:00+00:00"
        } else {
            "2030-01-01T00:01:00+00:00"
        };
        assert_eq!(finished_at, expected, "a task that had ended keeps its end");
    }
    sql.verify().await
}

#[tokio::test]
async fn giving_up_ends_a_blocked_task_in_error_and_leaves_an_ended_one() -> anyhow::Result<()> {
    let mut sql = scenario().await?;
    let blocked = failed_task(&mut sql, "'blocking'").await?;
    let letter = letter_of(&mut sql, &blocked).await?;
    let row = resolve(&mut sql, &letter, "'permanently_failed'").await?;
    assert_eq!(row["task_state"], "error");
    let last = last_transition(&mut sql, &blocked).await?;
    assert_eq!(
        (&last["event"], &last["metadata"]),
        (&json!("give_up"), &json!({"dead_letter_uuid": letter}))
    );
    assert_eq!(
        sql.step_states(&blocked).await?,
        json!({"a": "error", "b": "pending"})
    );

    let ended = failed_task(&mut sql, "'ending', 'shop'").await?;
    let before = last_transition(&mut sql, &ended).await?;
    let letter = letter_of(&mut sql, &ended).await?;
    let row = resolve(&mut sql, &letter, "'permanently_failed', 'nobody needs it'").await?;
    assert_eq!(
        (&row["task_state"], &row["note"]),
        (&json!("error"), &json!("nobody needs it"))
    );
    assert_eq!(last_transition(&mut sql, &ended).await?, before);
    sql.verify().await
}

#[tokio::test]
async fn resolving_as_cancelled_cancels_what_has_not_ended() -> anyhow::Result<()> {
    let mut sql = scenario().await?;
    let blocked = failed_task(&mut sql, "'blocking'").await?;
    let letter = letter_of(&mut sql, &blocked).await?;
    let row = resolve(&mut sql, &letter, "'cancelled', 'not wanted'").await?;
    assert_eq!(
        (&row["task_state"], &row["resolution"], &row["note"]),
        (
            &json!("cancelled"),
            &json!("cancelled"),
            &json!("not wanted")
        )
    );
    assert_eq!(
        sql.step_states(&blocked).await?,
        json!({"a": "error", "b": "cancelled"})
    );
    let ended = failed_task(&mut sql, "'ending', 'shop'").await?;
    let letter = letter_of(&mut sql, &ended).await?;
    let row = resolve(&mut sql, &letter, "'cancelled'").await?;
    assert_eq!(row["task_state"], "error");
    sql.verify().await
}

#[tokio::test]
async fn a_dead_letter_is_resolved_once() -> anyhow::Result<()> {
    let mut sql = scenario().await?;
    let task = failed_task(&mut sql, "'blocking'").await?;
    let letter = letter_of(&mut sql, &task).await?;
    for arguments in ["'pending'", "'fixed'", "null"] {
        let call = format!("select tasker.resolve_dead_letter('{letter}', {arguments})");
        let refusal = sql.refused(&call).await?;
        assert_eq!(refusal.code, "22023", "{arguments}");
        assert!(refusal.hint.contains("manually_resolved"), "{refusal:?}");
    }
    resolve(&mut sql, &letter, "'permanently_failed'").await?;
    for resolution in ["manually_resolved", "permanently_failed", "cancelled"] {
        let call = format!("select tasker.resolve_dead_letter('{letter}', '{resolution}')");
        let refusal = sql.refused(&call).await?;
        assert_eq!(refusal.code, "TK010");
        assert!(refusal.message.contains("permanently_failed"));
    }
    for call in [
        format!("select tasker.resolve_dead_letter('{UNKNOWN}', 'cancelled')"),
        format!("select tasker.get_dead_letter('{UNKNOWN}')"),
    ] {
        assert_eq!(sql.refused(&call).await?.code, "TK004");
    }
    sql.verify().await
}

#[tokio::test]
async fn a_task_is_given_to_investigation_by_hand_and_goes_on() -> anyhow::Result<()> {
    let mut sql = scenario().await?;
    let task = sql.create("'blocking'").await?;
    let none = format!("select tasker.get_dead_letter(task_uuid => '{task}')");
    assert_eq!(sql.refused(&none).await?.code, "TK004");
    let letter: String = sql
        .value(&format!(
            "select tasker.open_dead_letter('{task}', 'takes too long')::text"
        ))
        .await?;
    let row = sql
        .row(&format!(
            "select * from tasker.get_dead_letter(task_uuid => '{task}')"
        ))
        .await?;
    assert_eq!(
        (
            &row["dead_letter_uuid"],
            &row["reason"],
            &row["note"],
            &row["task_state"]
        ),
        (
            &json!(letter),
            &json!("manual_dlq"),
            &json!("takes too long"),
            &json!("steps_in_process")
        )
    );
    assert_eq!(row["snapshot"]["steps"][0]["state"], "enqueued");
    let again = sql
        .refused(&format!(
            "select tasker.open_dead_letter('{task}', 'once more')"
        ))
        .await?;
    assert_eq!(again.code, "23505");
    assert!(again.detail.contains(&letter));
    // The engine's own failure finds one open, and opens no second.
    let step = sql.claim_one().await?;
    sql.fail(&step, json!({"message": "m"})).await?;
    assert_eq!(letter_of(&mut sql, &task).await?, letter);

    let row = resolve(&mut sql, &letter, "'manually_resolved', 'seen to'").await?;
    assert_eq!(row["note"], "takes too long\nseen to");
    sql.run(&format!(
        "select tasker.open_dead_letter('{task}', 'and again')"
    ))
    .await?;
    assert_ne!(letter_of(&mut sql, &task).await?, letter);
    for (arguments, code) in [
        (format!("'{UNKNOWN}', 'x'"), "TK001"),
        ("null, 'x'".to_owned(), "TK001"),
        (format!("'{task}', ''"), "22023"),
        (format!("'{task}', null"), "22023"),
    ] {
        let call = format!("select tasker.open_dead_letter({arguments})");
        assert_eq!(sql.refused(&call).await?.code, code, "{arguments}");
    }
    for (arguments, code) in [
        (String::new(), "22023"),
        (format!("'{letter}', '{task}'"), "22023"),
        (format!("task_uuid => '{UNKNOWN}'"), "TK001"),
    ] {
        let call = format!("select tasker.get_dead_letter({arguments})");
        assert_eq!(sql.refused(&call).await?.code, code, "{arguments}");
    }
    sql.verify().await
}

#[tokio::test]
async fn an_investigation_of_a_running_task_is_closed_without_touching_it() -> anyhow::Result<()> {
    let mut sql = scenario().await?;
    let task = sql.create("'blocking'").await?;
    for resolution in ["manually_resolved", "permanently_failed"] {
        let letter: String = sql
            .value(&format!(
                "select tasker.open_dead_letter('{task}', 'slow')::text"
            ))
            .await?;
        let row = resolve(&mut sql, &letter, &format!("'{resolution}'")).await?;
        assert_eq!(row["task_state"], "steps_in_process");
    }
    let step = sql.claim_one().await?;
    sql.complete(&step, json!(1)).await?;
    let step = sql.claim_one().await?;
    sql.complete(&step, json!(1)).await?;
    assert_eq!(sql.task_state(&task).await?, "complete");
    sql.verify().await
}

#[tokio::test]
async fn statistics_count_by_namespace_reason_and_resolution() -> anyhow::Result<()> {
    let mut sql = scenario().await?;
    assert!(
        sql.rows("select * from tasker.dead_letter_stats()")
            .await?
            .is_empty()
    );
    for at in 0..3 {
        sql.clock(at * 1000).await?;
        failed_task(&mut sql, "'blocking'").await?;
    }
    let task = failed_task(&mut sql, "'ending', 'shop'").await?;
    let letter = letter_of(&mut sql, &task).await?;
    resolve(&mut sql, &letter, "'manually_resolved'").await?;
    assert_eq!(
        sql.rows("select * from tasker.dead_letter_stats()").await?,
        [
            json!({"namespace": "default", "reason": "max_retries_exceeded", "resolution": "pending", "dead_letters": 3,
                "oldest_opened_at": "2030-01-01T00:00:00+00:00", "newest_opened_at": "2030-01-01T00:00:02+00:00"}),
            json!({"namespace": "shop", "reason": "max_retries_exceeded", "resolution": "manually_resolved", "dead_letters": 1,
                "oldest_opened_at": "2030-01-01T00:00:02+00:00", "newest_opened_at": "2030-01-01T00:00:02+00:00"}),
        ]
    );
    Ok(())
}

#[tokio::test]
async fn operators_resolve_and_readers_only_look() -> anyhow::Result<()> {
    let mut sql = scenario().await?;
    let task = failed_task(&mut sql, "'blocking'").await?;
    let letter = letter_of(&mut sql, &task).await?;
    let look = [
        "select * from tasker.list_dead_letters()".to_owned(),
        format!("select * from tasker.get_dead_letter('{letter}')"),
        "select * from tasker.dead_letter_stats()".to_owned(),
        "select * from tasker.stale_tasks()".to_owned(),
    ];
    let touch = [
        format!("select tasker.resolve_dead_letter('{letter}', 'permanently_failed')"),
        format!("select tasker.open_dead_letter('{task}', 'again')"),
    ];
    for role in ["tasker_reader", "tasker_client", "tasker_worker"] {
        sql.run(&format!("set role {role}")).await?;
        for call in &touch {
            assert_eq!(sql.refused(call).await?.code, "42501", "{role}: {call}");
        }
        for call in &look {
            if role == "tasker_reader" {
                sql.run(call).await?;
            } else {
                assert_eq!(sql.refused(call).await?.code, "42501", "{role}: {call}");
            }
        }
    }
    sql.run("set role tasker_operator").await?;
    for call in look.iter().chain(&touch) {
        sql.run(call).await?;
    }
    sql.run("reset role").await?;
    sql.verify().await
}
