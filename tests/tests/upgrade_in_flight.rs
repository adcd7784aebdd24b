//! The schema is updated while there is work in every state, and while sessions that stay connected go on with it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::ensure;
use serde_json::{Value, json};
use sqlx::{Executor, PgConnection};
use tasker_client::Definition;
use tasker_tests::contents::{columns, hashes};
use tasker_tests::flight::Flight;
use tasker_tests::following::{completed, create, verified};
use tasker_tests::releases::{NEWEST, database_of, migration, released, upgrade, version};
use tasker_tests::weeks::{TWO, create_two, work_off};
use tasker_tests::{Program, TestDatabase, eventually, examples};
use uuid::Uuid;

const WITHIN: Duration = Duration::from_secs(20);

#[tokio::test]
async fn work_in_every_state_goes_on_in_the_sessions_that_held_it() -> anyhow::Result<()> {
    for old in released()? {
        let database = database_of(&old).await?;
        let client = database.client();
        examples::register(client).await?;
        // A worker with sessions of its own, which stay connected.
        let _worker = Program::worker(database.url(), &[])?;
        let before = create(client, "example", "linear_workflow", &json!({})).await?;
        completed(client, before).await?;
        let mut session = database.session().await?;
        let flight = Flight::take_off(&mut session).await?;
        let cursor = flight.cursor().to_owned();

        let columns = columns(database.pool()).await?;
        let kept = hashes(database.pool(), &columns).await?;
        upgrade(&mut database.session().await?).await?;
        assert_eq!(client.version().await?, NEWEST);
        let mut found = hashes(database.pool(), &columns).await?;
        // Sequences of tables that are new have no number yet.
        found.retain(|name, _| kept.contains_key(name));
        assert_eq!(found, kept, "from {old}");
        assert!(client.verify(None).await?.is_empty());

        flight.land(&mut session).await?;
        let after = create(client, "example", "linear_workflow", &json!({})).await?;
        completed(client, after).await?;
        Flight::is_followed(&cursor, database.pool(), after).await?;
        verified(client).await?;
    }
    Ok(())
}

/// Creates tasks and works steps off until told to stop; gives how many tasks there were.
async fn work(mut session: PgConnection, stop: &AtomicBool) -> anyhow::Result<i64> {
    let done = json!({"status": "complete", "result": {"n": 1}});
    let mut created = 0;
    while !stop.load(Ordering::Relaxed) {
        create_two(&mut session).await?;
        work_off(&mut session, &done).await?;
        created += 1;
    }
    Ok(created)
}

#[tokio::test]
async fn sessions_at_work_notice_nothing_of_the_update() -> anyhow::Result<()> {
    for old in released()? {
        let database = database_of(&old).await?;
        let client = database.client();
        client
            .register_template(Definition::Yaml(TWO), None)
            .await?;
        let stop = AtomicBool::new(false);
        let sessions = [
            database.session().await?,
            database.session().await?,
            database.session().await?,
        ];
        let mut operator = database.session().await?;
        let update = async {
            // In the middle of it: all of them have plans by now, and tasks lie before and behind.
            eventually("there is work", WITHIN, async || {
                let tasks: i64 = sqlx::query_scalar("select count(*) from tasker.tasks")
                    .fetch_one(database.pool())
                    .await?;
                Ok((tasks > 30).then_some(tasks))
            })
            .await?;
            let updated = upgrade(&mut operator).await;
            let before: i64 = sqlx::query_scalar("select count(*) from tasker.tasks")
                .fetch_one(database.pool())
                .await?;
            let worked = eventually("the work goes on", WITHIN, async || {
                let tasks: i64 = sqlx::query_scalar("select count(*) from tasker.tasks")
                    .fetch_one(database.pool())
                    .await?;
                Ok((tasks > before + 30).then_some(()))
            })
            .await;
            stop.store(true, Ordering::Relaxed);
            updated.and(worked)
        };
        let [one, two, three] = sessions;
        let (updated, one, two, three) = tokio::join!(
            update,
            work(one, &stop),
            work(two, &stop),
            work(three, &stop)
        );
        updated?;
        let created = one? + two? + three?;
        let open: i64 =
            sqlx::query_scalar("select count(*) from tasker.tasks where state <> 'complete'")
                .fetch_one(database.pool())
                .await?;
        assert_eq!(open, 0);
        ensure!(created > 60, "{created} tasks");
        verified(client).await?;
    }
    Ok(())
}

/// The library knows types of steps that the schema of a version before them can't hold.
#[tokio::test]
async fn a_schema_before_them_refuses_steps_that_are_made_or_decided_while_a_task_runs()
-> anyhow::Result<()> {
    const MAP: &str = "{name: map, version: 1.0.0, steps: [{name: a, handler: {callable: t}}, \
        {name: b, type: map, over: a.items, handler: {callable: t}, dependencies: [a]}]}";
    let database = database_of("0.1.0").await?;
    let mut session = database.session().await?;
    let findings = "select code || ' ' || path from tasker.validate_template($1::text) where severity = 'error'";
    let register = "select version from tasker.register_template($1::text)";
    let found: Vec<String> = sqlx::query_scalar(findings)
        .bind(MAP)
        .fetch_all(&mut session)
        .await?;
    assert_eq!(found, ["UNSUPPORTED_TYPE steps[1].type"]);
    let refused = sqlx::query(register).bind(MAP).execute(&mut session).await;
    let error = refused.err().and_then(|error| {
        let error = error.into_database_error()?;
        Some((error.code()?.into_owned(), error.message().to_owned()))
    });
    let (code, message) = error.unwrap_or_default();
    assert_eq!(code, "TK020", "{message}");
    assert!(message.contains("UNSUPPORTED_TYPE"), "{message}");
    upgrade(&mut session).await?;
    let registered: String = sqlx::query_scalar(register)
        .bind(MAP)
        .fetch_one(&mut session)
        .await?;
    assert_eq!(registered, "1.0.0");
    Ok(())
}

/// What the next claim is handed as its handler.
async fn claimed_handler(session: &mut PgConnection) -> anyhow::Result<Value> {
    create_two(session).await?;
    let query = "select c.handler from tasker.claim_steps('w', '{default}', 1) c";
    Ok(sqlx::query_scalar(query).fetch_one(session).await?)
}

/// An upgrade script may rewrite compiled templates, and make types anew: it makes another edition, and what a session keeps is read again.
#[tokio::test]
async fn a_session_forgets_what_it_keeps_when_the_edition_is_another() -> anyhow::Result<()> {
    let database = TestDatabase::new().await?;
    database
        .client()
        .register_template(Definition::Yaml(TWO), None)
        .await?;
    let mut session = database.session().await?;
    assert_eq!(claimed_handler(&mut session).await?["callable"], "t");
    let rewrite = "update tasker.templates set compiled = replace(compiled::text, '\"t\"', '\"rewritten\"')::jsonb";
    let rewritten = database.pool().execute(rewrite).await?;
    assert_eq!(rewritten.rows_affected(), 1);
    assert_eq!(
        claimed_handler(&mut session).await?["callable"],
        "t",
        "a session keeps a template"
    );
    let another = "begin; alter extension tasker drop type tasker._edition; drop type tasker._edition; create type tasker._edition as (); \
        alter type tasker._message rename to _message_before; \
        do $$ begin execute (select format('create type tasker._message as (%s)', string_agg(format('%I %s', a.attname, format_type(a.atttypid, null)), ', ' order by a.attnum)) \
          from pg_attribute a where a.attrelid = 'tasker._message_before'::regclass and a.attnum > 0); end $$; \
        alter extension tasker drop type tasker._message_before; drop type tasker._message_before; commit";
    sqlx::raw_sql(another).execute(database.pool()).await?;
    assert_eq!(
        claimed_handler(&mut session).await?["callable"],
        "rewritten"
    );
    let last: Uuid = create_two(&mut session).await?;
    assert_eq!(
        database.client().get_task(last).await?.state,
        "steps_in_process"
    );
    verified(database.client()).await
}

/// What the session that updates a database is doing, as PostgreSQL shows it.
const WAITS_FOR: &str = "select wait_event from pg_stat_activity where datname = current_database() and query like '-- From version 0.1.0 %' and pid <> pg_backend_pid()";

#[tokio::test]
async fn the_migration_gives_way_to_whoever_holds_a_lock_and_tries_again() -> anyhow::Result<()> {
    let database = database_of("0.1.0").await?;
    let mut holder = database.session().await?;
    // No type can be made meanwhile.
    holder
        .execute("begin; lock table pg_catalog.pg_type in share mode")
        .await?;
    let mut operator = database.session().await?;
    let update = migration("0003_tasker_0_2_0.sql")?;
    let updating = operator.execute(sqlx::raw_sql(&update));
    let held = async {
        let gave_way = eventually("the update has given way once", WITHIN, async || {
            let waits_for: Option<Option<String>> = sqlx::query_scalar(WAITS_FOR)
                .fetch_optional(database.pool())
                .await?;
            Ok((waits_for.flatten().as_deref() == Some("PgSleep")).then_some(()))
        })
        .await;
        holder.execute("commit").await?;
        gave_way
    };
    let (updated, gave_way) = tokio::join!(updating, held);
    gave_way?;
    updated?;
    assert_eq!(version(&mut operator).await?, "0.2.0");
    verified(database.client()).await
}
