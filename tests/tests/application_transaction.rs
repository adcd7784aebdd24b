//! Tasks created in an application's own transaction: with its rows, or not at all.

use sqlx::{Executor, PgPool};
use tasker_client::tasks::{create_task_in, create_tasks_in};
use tasker_client::{Client, Error, Tasker};
use tasker_tests::TestDatabase;
use tasker_tests::application::of;
use tasker_tests::by_hand::{PAYMENT, register};

/// An application with a pool and a table of its own.
async fn shop() -> anyhow::Result<(TestDatabase, PgPool)> {
    let database = TestDatabase::new().await?;
    register(database.client(), &[PAYMENT]).await?;
    let pool = PgPool::connect(database.url()).await?;
    pool.execute("create table orders (order_id text primary key)")
        .await?;
    Ok((database, pool))
}

/// How many orders, tasks and messages there are.
async fn counts(pool: &PgPool) -> anyhow::Result<(i64, i64, i64)> {
    let query = "select (select count(*) from orders), (select count(*) from tasker.tasks), (select count(*) from pgmq.q_worker_default_queue)";
    Ok(sqlx::query_as(query).fetch_one(pool).await?)
}

#[tokio::test]
async fn orders_and_tasks_commit_together_and_roll_back_together() -> anyhow::Result<()> {
    let (_database, pool) = shop().await?;
    let place = async |commits: bool| -> anyhow::Result<()> {
        let mut transaction = pool.begin().await?;
        transaction
            .execute("insert into orders values ('A-1001')")
            .await?;
        create_task_in(&mut transaction, &of("payment")).await?;
        let several = create_tasks_in(&mut transaction, &[of("payment"), of("payment")]).await?;
        assert!(several.iter().all(|task| task.created));
        if commits {
            transaction.commit().await?;
        } else {
            transaction.rollback().await?;
        }
        Ok(())
    };
    place(false).await?;
    assert_eq!(counts(&pool).await?, (0, 0, 0));
    place(true).await?;
    assert_eq!(counts(&pool).await?, (1, 3, 3));
    Ok(())
}

#[tokio::test]
async fn a_task_that_is_refused_leaves_the_order_to_the_application() -> anyhow::Result<()> {
    let (_database, pool) = shop().await?;
    let mut transaction = pool.begin().await?;
    transaction
        .execute("insert into orders values ('A-1001'); savepoint before_task")
        .await?;
    let refused = create_task_in(&mut transaction, &of("nothing")).await;
    assert!(matches!(refused, Err(Error::NotFound(_))), "{refused:?}");
    transaction.execute("rollback to before_task").await?;
    transaction.commit().await?;
    assert_eq!(counts(&pool).await?, (1, 0, 0));
    Ok(())
}

#[tokio::test]
async fn an_application_uses_its_own_pool_for_all_else() -> anyhow::Result<()> {
    let (_database, pool) = shop().await?;
    let tasker = Tasker::from(Client::from_pool(pool.clone()));
    let mut transaction = pool.begin().await?;
    let task_uuid = create_task_in(&mut transaction, &of("payment")).await?;
    let refused = tasker.get_task(task_uuid).await;
    assert!(
        matches!(refused, Err(Error::NotFound(_))),
        "nobody else sees it before"
    );
    transaction.commit().await?;
    assert_eq!(tasker.get_task(task_uuid).await?.state, "steps_in_process");
    assert!(tasker.sql().is_some());
    Ok(())
}
