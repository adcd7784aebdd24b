//! Who wants all steps of a task gets them from workers that finish instances of it as fast as they can, however they finish them.

use std::time::Duration;

use anyhow::ensure;
use serde_json::{Value, json};
use sqlx::{Executor, PgConnection};
use tasker_client::Definition;
use tasker_tests::following::{create, verified};
use tasker_tests::{TestDatabase, eventually};
use tokio::task::JoinHandle;
use uuid::Uuid;

/// So many that workers are busy with them for seconds.
const ITEMS: u32 = 20_000;
const WORKERS: usize = 3;
const WITHIN: Duration = Duration::from_secs(30);
const BUSY: &str = "{name: busy, version: 1.0.0, lifecycle: {max_duration_seconds: 1800}, steps: [
  {name: list, handler: {callable: t.a}},
  {name: each, type: map, over: list.items, handler: {callable: t.a}, dependencies: [list], max_parallel: 50},
  {name: end, handler: {callable: t.a}, dependencies: [each]}]}";
const FINISH: &str = "select array_to_json(claimed) from tasker.finish_steps($1, $2, claim_next => $3, namespaces => '{default}')";

/// In which transactions a worker finishes steps.
#[derive(Debug, Clone, Copy)]
enum Manner {
    /// Each batch in one of its own.
    Alone,
    /// With data of the application that is written before.
    WithData,
    /// In the one that claimed them.
    AsClaimed,
}

/// Reports what is claimed as complete, and claims more. What a canceller won is refused by the verdicts, which nobody reads here.
async fn finish(
    session: &mut PgConnection,
    worker: &str,
    claimed: &Value,
    claim_next: i32,
) -> sqlx::Result<Option<Value>> {
    let outcomes: Vec<Value> = claimed
        .as_array()
        .into_iter()
        .flatten()
        .map(|step| json!({"step_uuid": step["step_uuid"], "attempt": step["attempt"], "status": "complete", "result": 1}))
        .collect();
    sqlx::query_scalar(FINISH)
        .bind(worker)
        .bind(json!(outcomes))
        .bind(claim_next)
        .fetch_one(session)
        .await
}

async fn work(mut session: PgConnection, worker: String, manner: Manner) -> anyhow::Result<()> {
    let mut claimed = json!([]);
    loop {
        let is_one = !matches!(manner, Manner::Alone);
        if is_one {
            session.execute("begin").await?;
        }
        if matches!(manner, Manner::WithData) {
            let write = "insert into public.seen values (1)";
            session.execute(write).await?;
        }
        if matches!(manner, Manner::AsClaimed) {
            let taken = finish(&mut session, &worker, &json!([]), 10).await?;
            finish(&mut session, &worker, &taken.unwrap_or_default(), 0).await?;
        } else {
            claimed = finish(&mut session, &worker, &claimed, 10)
                .await?
                .unwrap_or_default();
        }
        if is_one {
            session.execute("commit").await?;
        }
        tokio::task::yield_now().await;
    }
}

/// A task whose instances workers are finishing, and those workers.
struct Busy {
    database: TestDatabase,
    task: Uuid,
    workers: Vec<JoinHandle<anyhow::Result<()>>>,
}

impl Busy {
    async fn begin(manner: Manner) -> anyhow::Result<Self> {
        let database = TestDatabase::new().await?;
        let client = database.client();
        let definition = Definition::Yaml(BUSY);
        client.register_template(definition, None).await?;
        database
            .pool()
            .execute("create table public.seen (n integer)")
            .await?;
        let task = create(client, "default", "busy", &json!({})).await?;
        let mut session = database.session().await?;
        let list = finish(&mut session, "first", &json!([]), 1).await?;
        let list = list.unwrap_or_default();
        let made = format!(
            "select tasker.complete_step('{}', 1, json_build_object('items', array(select generate_series(1, {ITEMS})))::jsonb)",
            list[0]["step_uuid"].as_str().unwrap_or_default()
        );
        session.execute(made.as_str()).await?;
        let mut workers = Vec::new();
        for number in 0..WORKERS {
            let session = database.session().await?;
            workers.push(tokio::spawn(work(
                session,
                format!("worker-{number}"),
                manner,
            )));
        }
        let busy = Self {
            database,
            task,
            workers,
        };
        busy.until_complete(500).await?;
        Ok(busy)
    }

    /// How many steps are complete.
    async fn complete(&self) -> anyhow::Result<i64> {
        let count = "select count(*) from tasker.steps where state = 'complete'";
        Ok(sqlx::query_scalar(count)
            .fetch_one(self.database.pool())
            .await?)
    }

    async fn until_complete(&self, count: i64) -> anyhow::Result<()> {
        eventually("so many steps are complete", WITHIN, async || {
            Ok((self.complete().await? >= count).then_some(()))
        })
        .await
    }

    /// Ends the workers, who have met no error.
    async fn end(self) -> anyhow::Result<TestDatabase> {
        for worker in self.workers {
            ensure!(!worker.is_finished(), "{:?}", worker.await?);
            worker.abort();
        }
        verified(self.database.client()).await?;
        Ok(self.database)
    }
}

async fn is_cancelled_in_time(manner: Manner) -> anyhow::Result<()> {
    let busy = Busy::begin(manner).await?;
    let client = busy.database.client();
    client.cancel_task(busy.task, None).await?;
    assert_eq!(client.get_task(busy.task).await?.state, "cancelled");
    busy.end().await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_is_cancelled_while_workers_finish_its_instances() -> anyhow::Result<()> {
    is_cancelled_in_time(Manner::Alone).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_is_cancelled_while_workers_finish_its_instances_with_data_of_their_own()
-> anyhow::Result<()> {
    is_cancelled_in_time(Manner::WithData).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_is_cancelled_while_workers_claim_and_finish_in_one_transaction()
-> anyhow::Result<()> {
    is_cancelled_in_time(Manner::AsClaimed).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_is_paused_and_resumed_while_workers_finish_its_instances() -> anyhow::Result<()> {
    let busy = Busy::begin(Manner::Alone).await?;
    let client = busy.database.client();
    client.pause_task(busy.task, None).await?;
    // What was at work may be finished.
    tokio::time::sleep(Duration::from_millis(100)).await;
    let at_rest = busy.complete().await?;
    assert!(at_rest < i64::from(ITEMS), "{at_rest} complete");
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(busy.complete().await?, at_rest);
    client.resume_task(busy.task).await?;
    busy.until_complete(at_rest + 1).await?;
    client.cancel_task(busy.task, None).await?;
    busy.end().await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_over_its_time_is_ended_while_workers_finish_its_instances() -> anyhow::Result<()> {
    let busy = Busy::begin(Manner::Alone).await?;
    let mut session = busy.database.session().await?;
    session
        .execute("select tasker._set_now(clock_timestamp() + interval '31 minutes')")
        .await?;
    let client = busy.database.client();
    // The job leaves to the next round what it can't have.
    eventually("the task ends", WITHIN, async || {
        for job in ["find_late_work", "time_out_tasks"] {
            let run = format!("select tasker.run_maintenance_job('{job}')");
            session.execute(run.as_str()).await?;
        }
        let task = client.get_task(busy.task).await?;
        Ok(task.finished_at.map(|_| ()))
    })
    .await?;
    assert_eq!(client.get_task(busy.task).await?.state, "error");
    busy.end().await.map(drop)
}
