//! Deliveries of durable events to subscribers, as workers call them. What is published, and when, is in `sql_domain_events`.

use serde_json::{Value, json};
use tasker_tests::Scenario;

const ONE: &str = "{name: one, version: 1.0.0, steps: [{name: a, handler: {callable: t.a}, publishes_events: [{name: a.done}]}]}";

const ALL: &str = "select tasker.subscribe_domain_events('all', '{default}', '{*}')";

/// With subscriptions, and one event that was published.
async fn with(subscriptions: &[&str]) -> anyhow::Result<Scenario> {
    let mut sql = Scenario::new().await?;
    sql.register(ONE).await?;
    for subscription in subscriptions {
        sql.run(subscription).await?;
    }
    publish(&mut sql, 1).await?;
    Ok(sql)
}

async fn publish(sql: &mut Scenario, payload: i32) -> anyhow::Result<()> {
    sql.create("'one'").await?;
    let step = sql.claim_one().await?;
    sql.complete(&step, json!(payload)).await
}

/// What a worker of a subscriber claims, with a lease of 10 seconds.
async fn claim(
    sql: &mut Scenario,
    subscriber: &str,
    patterns: &str,
    max: u32,
) -> anyhow::Result<Vec<Value>> {
    sql.rows(&format!(
        "select * from tasker.claim_domain_events('w', '{subscriber}', '{{default}}', '{patterns}', {max}, '10 seconds')"
    ))
    .await
}

async fn claim_one(sql: &mut Scenario) -> anyhow::Result<Value> {
    let mut claimed = claim(sql, "all", "{*}", 10).await?;
    anyhow::ensure!(claimed.len() == 1, "{claimed:?}");
    Ok(claimed.remove(0))
}

/// Says how a delivery ended, and gives the verdict.
async fn finish(sql: &mut Scenario, claimed: &Value, status: &str) -> anyhow::Result<String> {
    let delivery = json!([{"namespace": claimed["namespace"], "msg_id": claimed["msg_id"], "delivery": claimed["delivery"],
        "status": status, "error": "as it is"}]);
    sql.value(&format!(
        "select verdict from tasker.finish_domain_events('w', '{delivery}')"
    ))
    .await
}

async fn waiting(sql: &mut Scenario) -> anyhow::Result<i64> {
    sql.value("select count(*) from pgmq.q_events_default_queue")
        .await
}

#[tokio::test]
async fn an_event_is_handed_out_once_and_is_over_when_it_is_done() -> anyhow::Result<()> {
    let mut sql = with(&[ALL]).await?;
    let claimed = claim_one(&mut sql).await?;
    assert_eq!(
        (&claimed["delivery"], &claimed["pattern"]),
        (&json!(1), &json!("*"))
    );
    assert_eq!(
        (&claimed["event"]["name"], &claimed["event"]["payload"]),
        (&json!("a.done"), &json!(1))
    );
    assert!(claimed["event"].get("subscriber").is_none());
    assert!(claim(&mut sql, "all", "{*}", 10).await?.is_empty());
    assert_eq!(finish(&mut sql, &claimed, "done").await?, "accepted");
    assert_eq!(waiting(&mut sql).await?, 0);
    assert_eq!(finish(&mut sql, &claimed, "done").await?, "lost");
    Ok(())
}

#[tokio::test]
async fn an_event_comes_again_when_its_lease_ends_and_the_late_answer_changes_nothing()
-> anyhow::Result<()> {
    let mut sql = with(&[ALL]).await?;
    let first = claim_one(&mut sql).await?;
    sql.clock(10_000).await?;
    let second = claim_one(&mut sql).await?;
    assert_eq!(second["delivery"], 2);
    assert_eq!(second["event"]["event_uuid"], first["event"]["event_uuid"]);
    assert_eq!(finish(&mut sql, &first, "done").await?, "lost");
    assert_eq!(waiting(&mut sql).await?, 1);
    assert_eq!(finish(&mut sql, &second, "done").await?, "accepted");
    Ok(())
}

#[tokio::test]
async fn an_event_given_back_comes_again_at_once() -> anyhow::Result<()> {
    let mut sql = with(&[ALL]).await?;
    let claimed = claim_one(&mut sql).await?;
    assert_eq!(finish(&mut sql, &claimed, "release").await?, "accepted");
    assert_eq!(claim_one(&mut sql).await?["delivery"], 2);
    Ok(())
}

#[tokio::test]
async fn an_event_that_fails_rests_for_a_while_and_is_set_aside_after_ten_deliveries()
-> anyhow::Result<()> {
    let mut sql = with(&[ALL]).await?;
    let claimed = claim_one(&mut sql).await?;
    assert_eq!(finish(&mut sql, &claimed, "fail").await?, "accepted");
    assert!(claim(&mut sql, "all", "{*}", 10).await?.is_empty());
    sql.clock(1150).await?;
    for delivery in 2..=10 {
        let claimed = claim_one(&mut sql).await?;
        assert_eq!(claimed["delivery"], delivery);
        assert_eq!(finish(&mut sql, &claimed, "fail").await?, "accepted");
        sql.clock(i64::from(delivery) * 1_000_000).await?;
    }
    assert_eq!(waiting(&mut sql).await?, 0);
    let set_aside = sql
        .row("select set_aside -> 0 as of from tasker.list_domain_events()")
        .await?;
    let said = |field: &str| set_aside["of"][field].clone();
    assert_eq!(
        (said("subscriber"), said("pattern")),
        (json!("all"), json!("*"))
    );
    assert_eq!(said("error")["message"], "as it is");
    let archived: i64 = sql
        .value("select count(*) from pgmq.a_events_default_queue")
        .await?;
    assert_eq!(archived, 1);
    let health: String = sql
        .value("select detail from tasker.health() where name = 'domain_events' and not ok")
        .await?;
    assert!(health.starts_with("1 events of the last day"), "{health}");
    Ok(())
}

#[tokio::test]
async fn an_event_that_was_set_aside_can_be_sent_again() -> anyhow::Result<()> {
    let mut sql = with(&[ALL]).await?;
    for delivery in 1..=10 {
        let claimed = claim_one(&mut sql).await?;
        finish(&mut sql, &claimed, "fail").await?;
        sql.clock(delivery * 1_000_000).await?;
    }
    let event: String = sql
        .value("select event_uuid::text from tasker.list_domain_events()")
        .await?;
    let again = format!("select tasker.redeliver_domain_event('{event}')");
    assert_eq!(sql.value::<i64>(&again).await?, 1);
    assert_eq!(sql.value::<i64>(&again).await?, 0);
    let claimed = claim_one(&mut sql).await?;
    assert_eq!(claimed["delivery"], 1);
    assert_eq!(claimed["event"]["event_uuid"], json!(event));
    finish(&mut sql, &claimed, "done").await?;
    let health = "select ok from tasker.health() where name = 'domain_events'";
    assert!(sql.value::<bool>(health).await?);
    let nothing = "select tasker.redeliver_domain_event('00000000-0000-0000-0000-000000000001')";
    assert_eq!(sql.refused(nothing).await?.code, "TK004");
    Ok(())
}

#[tokio::test]
async fn an_event_is_not_sent_again_to_a_subscription_that_has_ended() -> anyhow::Result<()> {
    let mut sql = with(&[ALL]).await?;
    for delivery in 1..=10 {
        let claimed = claim_one(&mut sql).await?;
        finish(&mut sql, &claimed, "fail").await?;
        sql.clock(delivery * 1_000_000).await?;
    }
    sql.run("select tasker.unsubscribe_domain_events('all', 'default', '*')")
        .await?;
    let again = "select tasker.redeliver_domain_event(event_uuid) from tasker.list_domain_events()";
    assert_eq!(sql.value::<i64>(again).await?, 0);
    assert_eq!(waiting(&mut sql).await?, 0);
    Ok(())
}

#[tokio::test]
async fn an_event_whose_subscriber_dies_each_time_is_set_aside_too() -> anyhow::Result<()> {
    let mut sql = with(&[ALL]).await?;
    for delivery in 1..=10 {
        assert_eq!(claim_one(&mut sql).await?["delivery"], delivery);
        sql.clock(i64::from(delivery) * 10_000).await?;
    }
    assert!(claim(&mut sql, "all", "{*}", 10).await?.is_empty());
    assert_eq!(waiting(&mut sql).await?, 0);
    let troubled: i64 = sql
        .value("select count(*) from tasker.list_domain_events() where set_aside is not null")
        .await?;
    assert_eq!(troubled, 1);
    Ok(())
}

#[tokio::test]
async fn subscribers_get_every_event_each_and_share_those_of_one_name_and_pattern()
-> anyhow::Result<()> {
    let other = "select tasker.subscribe_domain_events('other', '{default}', '{a.*,*.done}')";
    let mut sql = with(&[ALL, other]).await?;
    publish(&mut sql, 2).await?;
    let payloads = |claimed: &[Value]| -> Vec<Value> {
        claimed
            .iter()
            .map(|claimed| claimed["event"]["payload"].clone())
            .collect()
    };
    let first = claim(&mut sql, "all", "{*}", 1).await?;
    let second = claim(&mut sql, "all", "{*}", 1).await?;
    assert_eq!(payloads(&first), [json!(1)]);
    assert_eq!(payloads(&second), [json!(2)]);
    assert!(claim(&mut sql, "all", "{*}", 10).await?.is_empty());
    // A worker of an older version has one of the patterns only.
    assert_eq!(claim(&mut sql, "other", "{a.*}", 10).await?.len(), 2);
    assert_eq!(claim(&mut sql, "other", "{a.*,*.done}", 10).await?.len(), 2);
    Ok(())
}

#[tokio::test]
async fn a_subscription_may_come_before_its_namespace_and_is_made_once() -> anyhow::Result<()> {
    let mut sql = Scenario::new().await?;
    assert_eq!(sql.value::<i64>(ALL).await?, 1);
    assert_eq!(sql.value::<i64>(ALL).await?, 0);
    assert!(claim(&mut sql, "all", "{*}", 10).await?.is_empty());
    sql.register(ONE).await?;
    publish(&mut sql, 1).await?;
    claim_one(&mut sql).await?;
    Ok(())
}

#[tokio::test]
async fn a_subscription_that_ends_takes_with_it_what_waits() -> anyhow::Result<()> {
    let other = "select tasker.subscribe_domain_events('other', '{default}', '{*}')";
    let mut sql = with(&[ALL, other]).await?;
    let row = sql
        .row("select subscriber, pattern, waiting, delivered_again, oldest_seconds from tasker.list_subscriptions('default') where subscriber = 'all'")
        .await?;
    assert_eq!(
        row,
        json!({"subscriber": "all", "pattern": "*", "waiting": 1, "delivered_again": 0, "oldest_seconds": 0})
    );
    let end = "select tasker.unsubscribe_domain_events('all', 'default', '*')";
    assert!(sql.value::<bool>(end).await?);
    assert!(!sql.value::<bool>(end).await?);
    assert!(claim(&mut sql, "all", "{*}", 10).await?.is_empty());
    assert_eq!(claim(&mut sql, "other", "{*}", 10).await?.len(), 1);
    publish(&mut sql, 2).await?;
    assert!(claim(&mut sql, "all", "{*}", 10).await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn health_tells_of_a_subscription_that_nobody_serves() -> anyhow::Result<()> {
    let mut sql = with(&[ALL]).await?;
    let health = "select ok || ': ' || detail from tasker.health() where name = 'domain_events'";
    assert!(sql.value::<String>(health).await?.starts_with("true: "));
    sql.clock(60_000).await?;
    assert_eq!(
        sql.value::<String>(health).await?,
        "false: events wait for all * (namespace default): start a worker that subscribes so, or tasker.unsubscribe_domain_events"
    );
    Ok(())
}

#[tokio::test]
async fn what_can_not_be_is_refused() -> anyhow::Result<()> {
    let mut sql = with(&[ALL]).await?;
    for call in [
        "tasker.subscribe_domain_events('a b', '{default}', '{*}')",
        "tasker.subscribe_domain_events(null, '{default}', '{*}')",
        "tasker.subscribe_domain_events('all', '{Default}', '{*}')",
        "tasker.subscribe_domain_events('all', '{null}', '{*}')",
        "tasker.subscribe_domain_events('all', null, '{*}')",
        "tasker.subscribe_domain_events('all', '{default}', '{a b}')",
        "tasker.subscribe_domain_events('all', '{default}', '{null}')",
        "tasker.claim_domain_events('', 'all', '{default}', '{*}')",
        "tasker.claim_domain_events('w', 'all', '{default}', '{*}', -1)",
        "tasker.claim_domain_events('w', 'all', '{default}', '{*}', 1, '0 seconds')",
        "tasker.finish_domain_events('w', '{}')",
        "tasker.finish_domain_events('w', '[1]')",
        "tasker.finish_domain_events('w', '[{\"namespace\": \"default\", \"msg_id\": \"x\", \"delivery\": 1, \"status\": \"done\"}]')",
        "tasker.finish_domain_events('w', '[{\"namespace\": \"default\", \"msg_id\": 1, \"delivery\": 1, \"status\": \"gone\"}]')",
        "tasker.list_domain_events(\"limit\" => 0)",
    ] {
        let refusal = sql.refused(&format!("select {call}")).await?;
        assert_eq!(refusal.code, "22023", "{call}: {}", refusal.message);
    }
    let many = "tasker.claim_domain_events('w', 'all', '{default}', '{*}', 10001)";
    let refusal = sql.refused(&format!("select {many}")).await?;
    assert_eq!(refusal.code, "TK022");
    Ok(())
}

#[tokio::test]
async fn a_worker_takes_events_of_the_namespaces_it_may_work_in() -> anyhow::Result<()> {
    let mut sql = with(&[ALL]).await?;
    let claimed = claim_one(&mut sql).await?;
    sql.run(
        "create role tenant; grant tasker_worker, tasker_operator to tenant; set local tasker.check_namespaces = on; set local role tenant",
    )
    .await?;
    for call in [
        ALL,
        "select tasker.claim_domain_events('w', 'all', '{default}', '{*}')",
        "select tasker.unsubscribe_domain_events('all', 'default', '*')",
    ] {
        assert_eq!(sql.refused(call).await?.code, "42501", "{call}");
    }
    assert_eq!(finish(&mut sql, &claimed, "done").await?, "lost");
    let seen = "select (select count(*) from tasker.list_domain_events()) + (select count(*) from tasker.list_subscriptions())";
    assert_eq!(sql.value::<i64>(seen).await?, 0);
    sql.run("reset role; select tasker.grant_namespace('tenant', 'default', 'work'); set local role tenant")
        .await?;
    assert_eq!(finish(&mut sql, &claimed, "done").await?, "accepted");
    Ok(())
}
