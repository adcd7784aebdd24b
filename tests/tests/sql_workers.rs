//! Workers and namespaces as operators see them: lists, retiring, settings, and whether anybody serves what is waited for.

use serde_json::json;
use tasker_tests::Scenario;

const ONE: &str = "{name: one, version: 1.0.0, steps: [{name: a, handler: {callable: t.a}}]}";

async fn with_worker() -> anyhow::Result<Scenario> {
    let mut sql = Scenario::new().await?;
    sql.register(ONE).await?;
    sql.run("select tasker.register_worker('w', '{default}', '{t.a,t.b}', 'rust', '1.2'); select tasker.worker_heartbeat('w', 2, 8)")
        .await?;
    Ok(sql)
}

#[tokio::test]
async fn a_worker_is_listed_with_what_it_serves_and_whether_it_lives() -> anyhow::Result<()> {
    let mut sql = with_worker().await?;
    let listed = "select * from tasker.list_workers()";
    let beginning = "2030-01-01T00:00:00+00:00";
    let mut wanted = json!({"worker_id": "w", "namespaces": ["default"], "handlers": ["t.a", "t.b"], "language": "rust", "version": "1.2", "running": 2, "capacity": 8,
        "registered_at": beginning, "last_seen_at": beginning, "retired_at": null, "is_live": true});
    sql.clock(60_000).await?;
    assert_eq!(sql.row(listed).await?, wanted);
    sql.clock(60_001).await?;
    wanted["is_live"] = json!(false);
    assert_eq!(sql.row(listed).await?, wanted);
    Ok(())
}

#[tokio::test]
async fn a_retired_worker_is_not_live_until_it_registers_again() -> anyhow::Result<()> {
    let mut sql = with_worker().await?;
    let is_live = "select is_live from tasker.list_workers()";
    let retire = "select tasker.retire_worker('w')";
    assert!(sql.value::<bool>(retire).await?);
    assert!(!sql.value::<bool>(retire).await?);
    assert!(!sql.value::<bool>(is_live).await?);
    let refusal = sql
        .refused("select tasker.worker_heartbeat('w', 0, 1)")
        .await?;
    assert_eq!(refusal.code, "TK004");
    sql.run("select tasker.register_worker('w', '{default}', '{t.a}', 'rust', '1.2')")
        .await?;
    assert!(sql.value::<bool>(is_live).await?);
    for unknown in ["'nobody'", "null"] {
        let refusal = sql
            .refused(&format!("select tasker.retire_worker({unknown})"))
            .await?;
        assert_eq!(refusal.code, "TK004");
    }
    Ok(())
}

#[tokio::test]
async fn workers_retired_or_silent_for_a_week_leave_the_list() -> anyhow::Result<()> {
    const DAY: i64 = 86_400_000;
    let mut sql = with_worker().await?;
    sql.run("select tasker.register_worker(w, '{default}', '{t.a}', 'rust', '1') from unnest('{retired,living}'::text[]) w")
        .await?;
    // A week begins anew when a silent worker is retired: somebody has looked at it.
    sql.clock(3 * DAY).await?;
    sql.run(
        "select tasker.retire_worker('retired'); select tasker.worker_heartbeat('living', 0, 1)",
    )
    .await?;
    let listed = "select coalesce(string_agg(worker_id, ' ' order by worker_id), '') from tasker.list_workers()";
    let forgotten = "select processed from tasker.run_maintenance() where job = 'forget_workers'";
    sql.clock(7 * DAY).await?;
    assert_eq!(sql.value::<i64>(forgotten).await?, 0);
    assert_eq!(sql.value::<String>(listed).await?, "living retired w");
    sql.clock(7 * DAY + 1).await?;
    assert_eq!(sql.value::<i64>(forgotten).await?, 1);
    assert_eq!(sql.value::<String>(listed).await?, "living retired");
    sql.run("select tasker.worker_heartbeat('living', 0, 1)")
        .await?;
    sql.clock(10 * DAY + 1).await?;
    assert_eq!(sql.value::<i64>(forgotten).await?, 1);
    assert_eq!(sql.value::<String>(listed).await?, "living");
    // One that was only away registers again, as it does whenever it isn't known.
    let refusal = sql
        .refused("select tasker.worker_heartbeat('w', 0, 1)")
        .await?;
    assert_eq!(refusal.code, "TK004");
    sql.run("select tasker.register_worker('w', '{default}', '{t.a}', 'rust', '1.2')")
        .await?;
    assert_eq!(sql.value::<String>(listed).await?, "living w");
    Ok(())
}

#[tokio::test]
async fn health_names_the_handlers_that_nobody_serves() -> anyhow::Result<()> {
    let mut sql = with_worker().await?;
    let workers = "select ok, detail from tasker.health() where name = 'workers'";
    let well =
        json!({"ok": true, "detail": "a live worker serves every handler that is waited for"});
    sql.create("'one'").await?;
    assert_eq!(sql.row(workers).await?, well);
    // For a minute a message may wait for a worker that is just starting.
    sql.run("select tasker.retire_worker('w')").await?;
    sql.clock(59_999).await?;
    assert_eq!(sql.row(workers).await?, well);
    sql.clock(60_000).await?;
    assert_eq!(
        sql.row(workers).await?,
        json!({"ok": false, "detail": "no live worker serves t.a (namespace default); tasker.list_workers() shows who lives"})
    );
    sql.run("select tasker.pause_namespace('default')").await?;
    assert_eq!(sql.row(workers).await?, well);
    sql.run("select tasker.resume_namespace('default'); select tasker.register_worker('v', '{default}', '{t.a}', 'rust', '1')")
        .await?;
    assert_eq!(sql.row(workers).await?, well);
    // A queue that is missing is another check's.
    sql.run("select pgmq.drop_queue('worker_default_queue')")
        .await?;
    assert_eq!(sql.row(workers).await?, well);
    Ok(())
}

#[tokio::test]
async fn namespaces_are_listed_with_their_queues() -> anyhow::Result<()> {
    let mut sql = with_worker().await?;
    let listed = sql.row("select * from tasker.list_namespaces()").await?;
    assert_eq!(
        listed,
        json!({"name": "default", "queue_name": "worker_default_queue", "settings": {}, "created_at": "2030-01-01T00:00:00+00:00",
            "paused_at": null, "paused_by": null, "pause_reason": null})
    );
    Ok(())
}

#[tokio::test]
async fn a_setting_that_a_namespace_has_not_is_refused() -> anyhow::Result<()> {
    let mut sql = with_worker().await?;
    let set = sql
        .row("select * from tasker.set_namespace('default', '{}')")
        .await?;
    assert_eq!(
        (&set["name"], &set["settings"]),
        (&json!("default"), &json!({}))
    );
    let refusal = sql
        .refused("select tasker.set_namespace('default', '{\"colour\": \"red\"}')")
        .await?;
    assert_eq!(refusal.code, "22023");
    assert_eq!(refusal.message, "a namespace has no setting colour");
    assert_eq!(refusal.hint, "Known settings: retention_days.");
    let set = sql
        .row("select * from tasker.set_namespace('default', '{\"retention_days\": 90}')")
        .await?;
    assert_eq!(set["settings"], json!({"retention_days": 90}));
    for bad in [
        "'[]'",
        "'1'",
        "null",
        "'{\"retention_days\": -1}'",
        "'{\"retention_days\": \"90\"}'",
        "'{\"retention_days\": 99999}'",
    ] {
        let refusal = sql
            .refused(&format!("select tasker.set_namespace('default', {bad})"))
            .await?;
        assert_eq!(refusal.code, "22023", "{bad}");
    }
    let refusal = sql
        .refused("select tasker.set_namespace('none', '{}')")
        .await?;
    assert_eq!(refusal.code, "TK004");
    Ok(())
}
