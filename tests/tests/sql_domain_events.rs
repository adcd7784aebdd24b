//! Domain events as outcomes publish them: which, when, with what payload, and where they go. How they are delivered is in `sql_event_deliveries`.

use serde_json::{Value, json};
use tasker_tests::Scenario;
use tasker_tests::scenario::{done, failed, given_back, key};

const EVERY: &str = "{name: every, version: 1.0.0, steps: [{name: a, handler: {callable: t.a}, timeout_seconds: 100,
    retry: {max_attempts: 2, backoff: linear, backoff_base_ms: 1000, jitter: 0}, publishes_events: [
      {name: a.success}, {name: a.failure, condition: failure}, {name: a.retryable, condition: retryable_failure},
      {name: a.permanent, condition: permanent_failure}, {name: a.always, condition: always}, {name: a.fast, condition: always, delivery_mode: fast}]}]}";

const CHECKED: &str = "{name: checked, version: 1.0.0, domain_events: [{name: a.own}, {name: a.declared, schema: {type: object, required: [n]}}],
    steps: [{name: a, handler: {callable: t.a}, publishes_events: [{name: a.own, schema: {required: [m], type: object}}, {name: a.declared}]}]}";

/// A task of a template, its step claimed, and a subscription to everything.
async fn with(template: &str) -> anyhow::Result<(Scenario, String, Value)> {
    let mut sql = Scenario::new().await?;
    sql.register(template).await?;
    sql.run("select tasker.subscribe_domain_events('all', '{default}', '{*}')")
        .await?;
    let name = template
        .trim_start_matches("{name: ")
        .split(',')
        .next()
        .unwrap_or_default();
    let task = sql.create(&format!("'{name}'")).await?;
    let step = sql.claim_one().await?;
    Ok((sql, task, step))
}

/// The events that were published, each with what it was of, in their order.
async fn published(sql: &mut Scenario) -> anyhow::Result<Vec<String>> {
    sql.value(
        "select coalesce(array_agg(name || ' ' || outcome || ' ' || attempt order by attempt, event_uuid), '{}')
         from tasker.list_domain_events() where problem is null",
    )
    .await
}

/// The messages in the queue, oldest first.
async fn messages(sql: &mut Scenario) -> anyhow::Result<Vec<Value>> {
    sql.rows("select message, vt from pgmq.q_events_default_queue order by msg_id")
        .await
}

const OF_RETRYABLE: [&str; 4] = ["a.failure", "a.retryable", "a.always", "a.fast"];
const OF_PERMANENT: [&str; 4] = ["a.failure", "a.permanent", "a.always", "a.fast"];
const OF_SUCCESS: [&str; 3] = ["a.success", "a.always", "a.fast"];

fn of(names: &[&str], outcome: &str, attempt: u32) -> Vec<String> {
    names
        .iter()
        .map(|name| format!("{name} {outcome} {attempt}"))
        .collect()
}

#[tokio::test]
async fn each_condition_holds_for_its_outcomes() -> anyhow::Result<()> {
    let (mut sql, _, step) = with(EVERY).await?;
    sql.fail(&step, json!({"message": "busy"})).await?;
    let after_one = of(&OF_RETRYABLE, "retryable_failure", 1);
    assert_eq!(published(&mut sql).await?, after_one);
    sql.clock(1000).await?;
    let step = sql.claim_one().await?;
    sql.fail(&step, json!({"message": "broken"})).await?;
    let after_two = [after_one, of(&OF_PERMANENT, "permanent_failure", 2)].concat();
    assert_eq!(published(&mut sql).await?, after_two);
    sql.run(&format!("select tasker.reset_step('{}')", key(&step)))
        .await?;
    let step = sql.claim_one().await?;
    sql.complete(&step, json!({"n": 1})).await?;
    let attempt = u32::try_from(step["attempt"].as_u64().unwrap_or_default())?;
    let after_three = [after_two, of(&OF_SUCCESS, "success", attempt)].concat();
    assert_eq!(published(&mut sql).await?, after_three);
    sql.verify().await
}

#[tokio::test]
async fn a_durable_event_is_a_message_with_all_that_a_subscriber_asks() -> anyhow::Result<()> {
    let (mut sql, task, step) = with(EVERY).await?;
    sql.complete(&step, json!({"n": 1})).await?;
    let messages = messages(&mut sql).await?;
    assert_eq!(messages.len(), 2, "a fast one is none: {messages:?}");
    let mut message = messages[0]["message"].clone();
    let event_uuid = message["event_uuid"].take();
    assert!(event_uuid.is_string());
    assert_eq!(
        message,
        json!({
            "event_uuid": null, "name": "a.success", "namespace": "default", "template_name": "every", "template_version": "1.0.0",
            "task_uuid": task, "step_uuid": step["step_uuid"], "step_name": "a", "attempt": 1, "outcome": "success",
            "correlation_id": step["correlation_id"], "at": "2030-01-01T00:00:00+00:00", "payload": {"n": 1},
            "subscriber": "all", "pattern": "*",
        })
    );
    Ok(())
}

#[tokio::test]
async fn the_payload_of_a_failure_is_its_error() -> anyhow::Result<()> {
    let (mut sql, _, step) = with(EVERY).await?;
    sql.fail(
        &step,
        json!({"message": "no", "type": "refused", "retryable": false}),
    )
    .await?;
    let message = &messages(&mut sql).await?[0]["message"];
    assert_eq!(
        message["payload"],
        json!({"message": "no", "type": "refused", "retryable": false})
    );
    Ok(())
}

#[tokio::test]
async fn each_subscription_that_matches_is_sent_a_message_of_its_own() -> anyhow::Result<()> {
    let (mut sql, _, step) = with(EVERY).await?;
    sql.run(
        "select tasker.subscribe_domain_events('some', '{default}', '{a.s*,b.*,a.success}'),
           tasker.subscribe_domain_events('elsewhere', '{other}', '{*}')",
    )
    .await?;
    sql.complete(&step, json!(1)).await?;
    let sent: Vec<String> = sql
        .value(
            "select array_agg(format('%s %s %s', message ->> 'name', message ->> 'subscriber', message ->> 'pattern')
               order by message ->> 'name', message ->> 'subscriber', message ->> 'pattern')
             from pgmq.q_events_default_queue",
        )
        .await?;
    assert_eq!(
        sent,
        [
            "a.always all *",
            "a.success all *",
            "a.success some a.s*",
            "a.success some a.success",
        ]
    );
    let counts: Vec<i64> = sql
        .value("select array_agg(subscriptions order by name) from tasker.list_domain_events()")
        .await?;
    assert_eq!(counts, [1, 0, 3], "a.always, a.fast, a.success");
    Ok(())
}

#[tokio::test]
async fn without_a_subscription_an_event_is_logged_and_nothing_piles_up() -> anyhow::Result<()> {
    let mut sql = Scenario::new().await?;
    sql.register(EVERY).await?;
    sql.create("'every'").await?;
    let step = sql.claim_one().await?;
    sql.complete(&step, json!(1)).await?;
    assert_eq!(published(&mut sql).await?, of(&OF_SUCCESS, "success", 1));
    assert!(messages(&mut sql).await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn what_is_rolled_back_is_never_published() -> anyhow::Result<()> {
    let (mut sql, _, step) = with(EVERY).await?;
    sql.run("savepoint before_it").await?;
    sql.complete(&step, json!(1)).await?;
    sql.run("rollback to before_it").await?;
    assert!(published(&mut sql).await?.is_empty());
    assert!(messages(&mut sql).await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn a_handler_may_give_an_event_a_payload_of_its_own() -> anyhow::Result<()> {
    let (mut sql, _, step) = with(EVERY).await?;
    let mut outcome = done(&step, json!({"n": 1}));
    outcome["events"] = json!({"a.success": {"own": true}, "a.failure": "for another outcome"});
    assert_eq!(sql.verdict(outcome).await?, "accepted -");
    let payloads: Value = sql
        .value("select jsonb_object_agg(name, payload) from tasker.list_domain_events()")
        .await?;
    assert_eq!(
        payloads,
        json!({"a.success": {"own": true}, "a.always": {"n": 1}, "a.fast": {"n": 1}})
    );
    Ok(())
}

#[tokio::test]
async fn a_payload_for_an_event_that_the_step_does_not_publish_is_told_and_logged()
-> anyhow::Result<()> {
    let (mut sql, task, step) = with(EVERY).await?;
    let mut outcome = done(&step, json!(1));
    outcome["events"] = json!({"a.sucess": {"own": true}});
    let answer = sql.finish("w", json!([outcome]), 0).await?;
    assert_eq!(answer.words(), ["accepted"]);
    assert_eq!(answer.verdicts[0]["code"], "TK021");
    assert_eq!(
        answer.verdicts[0]["message"],
        "the event a.sucess is not published: its step does not publish it, by the template"
    );
    assert_eq!(sql.task_state(&task).await?, "complete");
    let row = sql
        .row("select name, payload, subscriptions, problem from tasker.list_domain_events() where problem is not null")
        .await?;
    assert_eq!(
        row,
        json!({"name": "a.sucess", "payload": {"own": true}, "subscriptions": 0, "problem": "its step does not publish it, by the template"})
    );
    Ok(())
}

#[tokio::test]
async fn payloads_are_an_object_within_the_limits() -> anyhow::Result<()> {
    let (mut sql, _, step) = with(EVERY).await?;
    let mut outcome = done(&step, json!(1));
    outcome["events"] = json!(["a.success"]);
    assert_eq!(sql.verdict(outcome.clone()).await?, "invalid 22023");
    outcome["events"] = json!({"a.success": "x".repeat(1024 * 1024)});
    assert_eq!(sql.verdict(outcome).await?, "invalid TK022");
    Ok(())
}

#[tokio::test]
async fn a_payload_that_does_not_satisfy_its_schema_is_not_published_and_the_step_is_done()
-> anyhow::Result<()> {
    let (mut sql, task, step) = with(CHECKED).await?;
    let answer = sql
        .finish("w", json!([done(&step, json!({"n": 1}))]), 0)
        .await?;
    assert_eq!(answer.verdicts[0]["code"], "TK021");
    assert_eq!(sql.task_state(&task).await?, "complete");
    let rows = sql
        .rows("select name, problem, subscriptions from tasker.list_domain_events() order by name")
        .await?;
    assert_eq!(
        rows,
        [
            json!({"name": "a.declared", "problem": null, "subscriptions": 1}),
            json!({"name": "a.own", "subscriptions": 0,
                "problem": "its payload does not satisfy the event's schema: : \"m\" is a required property"}),
        ]
    );
    assert_eq!(messages(&mut sql).await?.len(), 1);
    let health = sql
        .row("select ok, detail from tasker.health() where name = 'domain_events'")
        .await?;
    assert_eq!(health["ok"], json!(false));
    Ok(())
}

#[tokio::test]
async fn the_schema_of_the_template_counts_where_the_step_has_none() -> anyhow::Result<()> {
    let (mut sql, _, step) = with(CHECKED).await?;
    sql.complete(&step, json!({"m": 1})).await?;
    let refused: Vec<String> = sql
        .value("select array_agg(name) from tasker.list_domain_events() where problem is not null")
        .await?;
    assert_eq!(refused, ["a.declared"]);
    Ok(())
}

#[tokio::test]
async fn a_lease_that_ends_is_a_failure_whoever_notices_it() -> anyhow::Result<()> {
    let (mut sql, _, _) = with(EVERY).await?;
    // A claim takes the step over at once.
    sql.clock(30_000).await?;
    sql.claim_one().await?;
    let after_one = of(&OF_RETRYABLE, "retryable_failure", 1);
    assert_eq!(published(&mut sql).await?, after_one);
    let error: String = sql
        .value("select payload ->> 'type' from tasker.list_domain_events() limit 1")
        .await?;
    assert_eq!(error, "lease_expired");
    // Maintenance finds that no attempt is left.
    sql.clock(100_000).await?;
    sql.run("select tasker.run_maintenance()").await?;
    let after_two = [after_one, of(&OF_PERMANENT, "permanent_failure", 2)].concat();
    assert_eq!(published(&mut sql).await?, after_two);
    Ok(())
}

#[tokio::test]
async fn an_attempt_past_its_timeout_is_a_failure() -> anyhow::Result<()> {
    let (mut sql, _, step) = with(EVERY).await?;
    sql.clock(20_000).await?;
    let extend = |lease: &str| {
        format!(
            "select verdict from tasker.extend_leases('w', '[{{\"step_uuid\": \"{}\", \"attempt\": 1}}]', '{lease}')",
            key(&step)
        )
    };
    sql.run(&extend("80 seconds")).await?;
    sql.clock(100_000).await?;
    let verdict: String = sql.value(&extend("10 seconds")).await?;
    assert_eq!(verdict, "timed_out");
    assert_eq!(
        published(&mut sql).await?,
        of(&OF_RETRYABLE, "retryable_failure", 1)
    );
    Ok(())
}

#[tokio::test]
async fn a_step_completed_by_hand_is_a_success() -> anyhow::Result<()> {
    let (mut sql, _, step) = with(EVERY).await?;
    sql.run(&format!(
        "select tasker.complete_step_manually('{}', '{{\"by\": \"hand\"}}', 'it is known')",
        key(&step)
    ))
    .await?;
    assert_eq!(published(&mut sql).await?, of(&OF_SUCCESS, "success", 2));
    Ok(())
}

#[tokio::test]
async fn what_decides_about_no_attempt_publishes_nothing() -> anyhow::Result<()> {
    let (mut sql, task, step) = with(EVERY).await?;
    sql.finish("w", json!([given_back(&step, "release")]), 0)
        .await?;
    let step = sql.claim_one().await?;
    sql.finish("w", json!([given_back(&step, "yield")]), 0)
        .await?;
    sql.run(&format!(
        "select tasker.resolve_step('{}', 'r')",
        key(&step)
    ))
    .await?;
    assert_eq!(sql.task_state(&task).await?, "complete");
    let other = sql.create("'every'").await?;
    sql.run(&format!("select tasker.cancel_task('{other}')"))
        .await?;
    assert!(published(&mut sql).await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn an_outcome_that_rests_publishes_when_it_is_evaluated_with_the_payloads_it_came_with()
-> anyhow::Result<()> {
    let deferred = EVERY.replace(
        "{name: every,",
        "{name: every, lifecycle: {evaluation: deferred},",
    );
    let (mut sql, _, step) = with(&deferred).await?;
    let mut outcome = failed(&step, json!({"message": "busy"}));
    outcome["events"] = json!({"a.failure": {"own": 1}});
    assert_eq!(sql.verdict(outcome).await?, "accepted -");
    assert!(published(&mut sql).await?.is_empty());
    sql.run("select tasker.run_maintenance()").await?;
    assert_eq!(
        published(&mut sql).await?,
        of(&OF_RETRYABLE, "retryable_failure", 1)
    );
    sql.clock(1000).await?;
    let step = sql.claim_one().await?;
    let mut outcome = done(&step, json!({"n": 1}));
    outcome["events"] = json!({"a.success": {"own": 2}});
    assert_eq!(sql.verdict(outcome).await?, "accepted -");
    sql.run("select tasker.run_maintenance()").await?;
    let payloads: Value = sql
        .value("select jsonb_object_agg(name, payload -> 'own') from tasker.list_domain_events() where payload ? 'own'")
        .await?;
    assert_eq!(payloads, json!({"a.failure": 1, "a.success": 2}));
    Ok(())
}

#[tokio::test]
async fn only_a_namespace_that_publishes_durable_events_has_a_queue_for_them() -> anyhow::Result<()>
{
    let mut sql = Scenario::new().await?;
    sql.register("{name: one, version: 1.0.0, steps: [{name: a, handler: {callable: t.a}, publishes_events: [{name: a.fast, delivery_mode: fast}]}]}")
        .await?;
    sql.run("select tasker.subscribe_domain_events('all', '{default}', '{*}')")
        .await?;
    let queue = "select to_regclass('pgmq.q_events_default_queue') is not null";
    assert!(!sql.value::<bool>(queue).await?);
    sql.register(EVERY).await?;
    assert!(sql.value::<bool>(queue).await?);
    Ok(())
}

#[tokio::test]
async fn a_lost_queue_of_events_is_missed_by_health_and_made_again() -> anyhow::Result<()> {
    let (mut sql, _, step) = with(EVERY).await?;
    sql.run("select pgmq.drop_queue('events_default_queue')")
        .await?;
    let outcome = json!([done(&step, json!(1))]);
    let refusal = sql
        .refused(&format!("select tasker.finish_steps('w', '{outcome}')"))
        .await?;
    assert_eq!(refusal.code, "TK030");
    let health: String = sql
        .value("select detail from tasker.health() where name = 'queues'")
        .await?;
    assert!(health.contains("missing: events_default_queue"), "{health}");
    sql.run("select tasker.run_maintenance()").await?;
    sql.complete(&step, json!(1)).await?;
    assert_eq!(messages(&mut sql).await?.len(), 2);
    Ok(())
}

#[tokio::test]
async fn events_are_listed_newest_first_by_page_pattern_and_task() -> anyhow::Result<()> {
    let (mut sql, task, step) = with(EVERY).await?;
    sql.complete(&step, json!(1)).await?;
    sql.clock(1000).await?;
    sql.create("'every'").await?;
    let step = sql.claim_one().await?;
    sql.complete(&step, json!(2)).await?;
    let names = |arguments: &str| {
        format!(
            "select coalesce(array_agg(name || payload order by event_uuid desc), '{{}}') from tasker.list_domain_events({arguments})"
        )
    };
    let all: Vec<String> = sql.value(&names("")).await?;
    assert_eq!(all[..3], ["a.fast2", "a.always2", "a.success2"]);
    let of_task: Vec<String> = sql.value(&names(&format!("task_uuid => '{task}'"))).await?;
    assert_eq!(of_task, ["a.fast1", "a.always1", "a.success1"]);
    let by_pattern: Vec<String> = sql.value(&names("name => 'a.s*', \"limit\" => 1")).await?;
    assert_eq!(by_pattern, ["a.success2"]);
    let next: Vec<String> = sql
        .value(&names(
            "after => (select event_uuid from tasker.list_domain_events(\"limit\" => 1))",
        ))
        .await?;
    assert_eq!(next.len(), 5);
    let elsewhere: Vec<String> = sql.value(&names("namespace => 'nowhere'")).await?;
    assert!(elsewhere.is_empty());
    assert_eq!(
        sql.refused("select tasker.list_domain_events(name => 'a b')")
            .await?
            .code,
        "22023"
    );
    Ok(())
}

#[tokio::test]
async fn events_are_forgotten_by_their_age_with_what_waits_and_what_was_set_aside()
-> anyhow::Result<()> {
    let (mut sql, _, step) = with(EVERY).await?;
    sql.complete(&step, json!(1)).await?;
    sql.run("select pgmq.archive('events_default_queue', array(select min(msg_id) from pgmq.q_events_default_queue))")
        .await?;
    let due =
        "select exists (select from tasker.list_due_jobs() where job = 'forget_domain_events')";
    let day = 24 * 60 * 60 * 1000;
    sql.clock(29 * day).await?;
    assert!(!sql.value::<bool>(due).await?);
    sql.clock(31 * day).await?;
    assert!(sql.value::<bool>(due).await?);
    let left = "select (select count(*) from tasker.domain_events) || ' ' || (select count(*) from pgmq.q_events_default_queue) || ' '
        || (select count(*) from pgmq.a_events_default_queue)";
    assert_eq!(sql.value::<String>(left).await?, "3 1 1");
    // A batch at a time, the log last.
    let run = "select processed || ' ' || more from tasker.run_maintenance_job('forget_domain_events', 1)";
    assert_eq!(sql.value::<String>(run).await?, "2 true");
    assert_eq!(sql.value::<String>(left).await?, "3 0 0");
    sql.run("select tasker.run_maintenance_job('forget_domain_events')")
        .await?;
    assert_eq!(sql.value::<String>(left).await?, "0 0 0");
    assert!(!sql.value::<bool>(due).await?);
    Ok(())
}
