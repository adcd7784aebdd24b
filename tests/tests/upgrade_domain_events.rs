//! Domain events and databases of released versions: they publish nothing until they are updated, and from then on what their templates say.

use anyhow::ensure;
use serde_json::{Value, json};
use sqlx::{Executor, PgConnection};
use tasker_tests::releases::{database_of, released, upgrade};

/// As it was accepted by every version.
const TEMPLATE: &str = "{name: one, version: 1.0.0, steps: [{name: a, handler: {callable: t.a}, publishes_events: [{name: a.done}]}]}";

/// Runs one task, whose step gives its event a payload of its own.
async fn work(session: &mut PgConnection) -> anyhow::Result<()> {
    session.execute("select tasker.create_task('one')").await?;
    let step: Value = sqlx::query_scalar(
        "select jsonb_build_object('step_uuid', step_uuid, 'attempt', attempt) from tasker.claim_steps('w', '{default}')",
    )
    .fetch_one(&mut *session)
    .await?;
    let outcome = json!([{"step_uuid": step["step_uuid"], "attempt": step["attempt"], "status": "complete", "result": 1,
        "events": {"a.done": {"own": true}}}]);
    let verdict: Option<String> =
        sqlx::query_scalar("select verdicts -> 0 ->> 'verdict' from tasker.finish_steps('w', $1)")
            .bind(outcome)
            .fetch_one(&mut *session)
            .await?;
    ensure!(verdict.as_deref() == Some("accepted"), "{verdict:?}");
    Ok(())
}

#[tokio::test]
async fn a_template_of_a_release_publishes_from_the_update_on() -> anyhow::Result<()> {
    for old in released()? {
        let database = database_of(&old).await?;
        let mut session = database.session().await?;
        sqlx::query("select tasker.register_template($1::text)")
            .bind(TEMPLATE)
            .execute(&mut session)
            .await?;
        work(&mut session).await?;
        session.execute("set tasker.evaluation = deferred").await?;
        work(&mut session).await?;
        upgrade(&mut database.session().await?).await?;
        session.execute("reset tasker.evaluation").await?;
        session
            .execute("select tasker.subscribe_domain_events('all', '{default}', '{*}')")
            .await?;
        // The outcome that rested came before there were events; its result did not.
        session.execute("select tasker.run_maintenance()").await?;
        work(&mut session).await?;
        let payloads: Vec<Value> = sqlx::query_scalar(
            "select event -> 'payload' from tasker.claim_domain_events('w', 'all', '{default}', '{*}')",
        )
        .fetch_all(&mut session)
        .await?;
        assert_eq!(payloads, [json!(1), json!({"own": true})], "from {old}");
    }
    Ok(())
}
