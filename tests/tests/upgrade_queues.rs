//! The queues of an older version, whose index on priorities is on the messages: they are served by priority before the update and after it.

use sqlx::{Executor, PgConnection};
use tasker_tests::TestDatabase;
use tasker_tests::releases::{NEWEST, database_of, released, upgrade, version};

const NAMESPACES: [&str; 2] = ["default", "shop"];
const INDEXES: &str = "select indexname || ': ' || indexdef from pg_indexes where schemaname = 'pgmq' and tablename like 'q\\_%' order by 1";

/// Registers a template of one step in each namespace.
async fn register(session: &mut PgConnection) -> anyhow::Result<()> {
    for namespace in NAMESPACES {
        let template = format!(
            "{{name: one, namespace: {namespace}, version: 1.0.0, steps: [{{name: a, handler: {{callable: t}}}}]}}"
        );
        sqlx::query("select * from tasker.register_template($1::text)")
            .bind(template)
            .execute(&mut *session)
            .await?;
    }
    Ok(())
}

async fn create(session: &mut PgConnection, priorities: &[i32]) -> anyhow::Result<()> {
    for namespace in NAMESPACES {
        sqlx::query("select tasker.create_task('one', $1, priority => u.priority) from unnest($2) u(priority)")
            .bind(namespace)
            .bind(priorities)
            .execute(&mut *session)
            .await?;
    }
    Ok(())
}

/// As the library of 0.1.0 wrote the messages: without headers.
async fn forget_headers(session: &mut PgConnection) -> anyhow::Result<()> {
    for namespace in NAMESPACES {
        let forget = format!("update pgmq.q_worker_{namespace}_queue set headers = null");
        session.execute(forget.as_str()).await?;
    }
    Ok(())
}

/// The priorities of two steps of each namespace, claimed one by one and finished.
async fn served(session: &mut PgConnection) -> anyhow::Result<Vec<i32>> {
    let mut priorities = Vec::new();
    for namespace in NAMESPACES {
        for _ in 0..2 {
            let query = "select c.priority, f.verdicts ->> 0 from tasker.claim_steps('w', array[$1], 1) c, \
                tasker.finish_steps('w', jsonb_build_array(jsonb_build_object('step_uuid', c.step_uuid, 'attempt', c.attempt, 'status', 'complete'))) f";
            let (priority, _): (i32, String) = sqlx::query_as(query)
                .bind(namespace)
                .fetch_one(&mut *session)
                .await?;
            priorities.push(priority);
        }
    }
    Ok(priorities)
}

/// A session whose next claims are those by priority, not the one in ten that takes the oldest.
async fn session_of(database: &TestDatabase) -> anyhow::Result<PgConnection> {
    let mut session = database.session().await?;
    session
        .execute("select tasker._set_now(date_trunc('day', clock_timestamp()))")
        .await?;
    Ok(session)
}

#[tokio::test]
async fn an_older_queue_is_served_by_priority_before_and_after_the_update() -> anyhow::Result<()> {
    let fresh = TestDatabase::new().await?;
    let mut session = fresh.session().await?;
    register(&mut session).await?;
    let wanted: Vec<String> = sqlx::query_scalar(INDEXES).fetch_all(&mut session).await?;
    for old in released()? {
        let database = database_of(&old).await?;
        let mut session = session_of(&database).await?;
        register(&mut session).await?;
        create(&mut session, &[0, -5, 100, 7, 0, 9]).await?;
        forget_headers(&mut session).await?;
        assert_eq!(served(&mut session).await?, [100, 9, 100, 9]);
        assert_eq!(version(&mut session).await?, old);

        upgrade(&mut database.session().await?).await?;
        assert_eq!(version(&mut session).await?, NEWEST);
        let indexes: Vec<String> = sqlx::query_scalar(INDEXES).fetch_all(&mut session).await?;
        assert_eq!(indexes, wanted, "after an update from {old}");
        let wrong: i64 = sqlx::query_scalar("select count(*) from tasker.verify()")
            .fetch_one(&mut session)
            .await?;
        assert_eq!(wrong, 0);
        // In the session that knew the other index.
        create(&mut session, &[8]).await?;
        assert_eq!(served(&mut session).await?, [8, 7, 8, 7]);
        assert_eq!(served(&mut session).await?, [0, 0, 0, 0]);
    }
    Ok(())
}

#[tokio::test]
async fn a_queue_that_is_gone_does_not_keep_a_database_from_being_updated() -> anyhow::Result<()> {
    for old in released()? {
        let database = database_of(&old).await?;
        let mut session = database.session().await?;
        register(&mut session).await?;
        create(&mut session, &[3, 0]).await?;
        session
            .execute("select pgmq.drop_queue('worker_shop_queue')")
            .await?;
        upgrade(&mut session).await?;
        session.execute("select tasker.run_maintenance()").await?;
        let claimed: Vec<i32> =
            sqlx::query_scalar("select priority from tasker.claim_steps('w', '{shop}', 1)")
                .fetch_all(&mut session)
                .await?;
        assert_eq!(claimed, [3]);
    }
    Ok(())
}
