//! Waiting for a task's end, over SQL and over REST: with a real worker, through every end, and while the server or the database is away.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sqlx::Executor;
use tasker_client::{
    Client, ConnectOptions, Error, EventFilter, EventSpan, FinishedTask, Tasker, WaitError,
    WaitOptions,
};
use tasker_tests::application::{Application, DOORS, Door, of};
use tasker_tests::by_hand::{PAYMENT, complete, fail, register};
use tasker_tests::following::{create, new_task};
use tasker_tests::{OwnCluster, Program, Server, StopMode, TestDatabase, eventually};
use uuid::Uuid;

const WITHIN: Duration = Duration::from_mins(1);
const BLOCKING: &str = "{name: blocking, version: 1.0.0, lifecycle: {on_failure: block}, steps: [
  {name: pay, handler: {callable: t.pay}, retry: {max_attempts: 1}}]}";

fn within(timeout: Duration) -> WaitOptions {
    WaitOptions {
        timeout: Some(timeout),
        ..WaitOptions::default()
    }
}

async fn wait(tasker: &Tasker, task_uuid: Uuid) -> Result<FinishedTask, WaitError> {
    tasker.wait_for_task(task_uuid, within(WITHIN)).await
}

/// Waits in a task of its own.
fn waiting(
    tasker: &Tasker,
    task_uuid: Uuid,
) -> tokio::task::JoinHandle<Result<FinishedTask, WaitError>> {
    let tasker = tasker.clone();
    tokio::spawn(async move { wait(&tasker, task_uuid).await })
}

/// Waits until somebody reads the feed of a database, or sleeps until there is news.
async fn somebody_follows(client: &Client) -> anyhow::Result<()> {
    let query = "select count(*) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid() \
        and (query like '%tasker.list_events%' or query like '%tasker.await_events%' or query like '%tasker.end_of_events%')";
    eventually("somebody reads the feed", WITHIN, async || {
        let readers: i64 = sqlx::query_scalar(query).fetch_one(client.pool()).await?;
        Ok((readers > 0).then_some(()))
    })
    .await
}

async fn application(door: Door) -> anyhow::Result<Application> {
    let application = Application::new(door).await?;
    register(application.client(), &[PAYMENT, BLOCKING]).await?;
    Ok(application)
}

#[tokio::test]
async fn a_real_worker_brings_a_task_to_its_result() -> anyhow::Result<()> {
    for door in DOORS {
        let application = Application::within(TestDatabase::with_examples().await?, door).await?;
        let _worker = Program::worker(application.database.url(), &[])?;
        let tasker = &application.tasker;
        let new = |template: &str, context: Value| new_task("example", template, &context);
        let task_uuid = tasker
            .create_task(&new("diamond_workflow", json!({"n": 3}))?)
            .await?;
        let finished = wait(tasker, task_uuid).await?;
        assert_eq!(finished.task.state, "complete");
        let names: Vec<_> = finished.results.keys().collect();
        assert_eq!(names, ["diamond_end"]);
        let result: Value = finished.result("diamond_end").expect("it is there")?;
        assert_eq!(result, json!({"n": "43046721"}), "{door:?}");

        // It has ended already: one look.
        let again = wait(tasker, task_uuid).await?;
        assert_eq!(again.task.finished_at, finished.task.finished_at);

        let failing = new("failures", json!({"times": 9, "kind": "permanent"}))?;
        let task_uuid = tasker.create_task(&failing).await?;
        let failed = wait(tasker, task_uuid).await;
        let Err(WaitError::Failed(failed)) = failed else {
            panic!("{door:?}: {failed:?}");
        };
        assert_eq!(failed.task.state, "error");
        assert_eq!(failed.error.step_name.as_deref(), Some("flaky"));
        assert_eq!(failed.error.retryable, Some(false));
        assert!(failed.error.message.starts_with("step flaky failed: "));
    }
    Ok(())
}

#[tokio::test]
async fn each_end_is_told_from_the_others() -> anyhow::Result<()> {
    for door in DOORS {
        let application = application(door).await?;
        let (tasker, client) = (&application.tasker, application.client());

        let task_uuid = tasker.create_task(&of("payment")).await?;
        let cancelled = waiting(tasker, task_uuid);
        tasker.cancel_task(task_uuid, None).await?;
        let cancelled = cancelled.await?;
        assert!(
            matches!(&cancelled, Err(WaitError::Cancelled(task)) if task.task_uuid == task_uuid),
            "{cancelled:?}"
        );

        let task_uuid = tasker.create_task(&of("payment")).await?;
        let resolved = waiting(tasker, task_uuid);
        for step in tasker.list_steps(task_uuid).await? {
            tasker.resolve_step(step.step_uuid, None).await?;
        }
        let resolved = resolved.await??;
        assert_eq!(resolved.results["pay"].get(), "null");

        let task_uuid = tasker.create_task(&of("blocking")).await?;
        let blocked = waiting(tasker, task_uuid);
        fail(client, "pay").await?;
        let blocked = blocked.await?;
        let Err(WaitError::Blocked(failed)) = &blocked else {
            panic!("{door:?}: {blocked:?}");
        };
        assert_eq!(failed.task.state, "blocked_by_failures");
        let message = blocked.as_ref().err().and_then(WaitError::task_error);
        assert!(
            message.is_some_and(|error| error.message.contains("no money")),
            "{blocked:?}"
        );

        // Blocked, it is waited for if that is wished, until somebody has repaired it.
        let options = WaitOptions {
            timeout: Some(WITHIN),
            while_blocked: true,
        };
        let (patient, own) = (tasker.clone(), tasker.clone());
        let repaired = tokio::spawn(async move { patient.wait_for_task(task_uuid, options).await });
        let pay = own.list_steps(task_uuid).await?.remove(0);
        own.reset_step(pay.step_uuid, None).await?;
        complete(client, "pay", &json!(7)).await?;
        assert_eq!(repaired.await??.results["pay"].get(), "7");
    }
    Ok(())
}

#[tokio::test]
async fn a_wait_ends_with_its_time_or_at_once_when_there_is_nothing_to_wait_for()
-> anyhow::Result<()> {
    for door in DOORS {
        let application = application(door).await?;
        let tasker = &application.tasker;
        let task_uuid = tasker.create_task(&of("payment")).await?;
        let waited = Duration::from_millis(300);
        let late = tasker.wait_for_task(task_uuid, within(waited)).await;
        let expected = (task_uuid, waited);
        assert!(
            matches!(&late, Err(WaitError::TimedOut { task_uuid, waited }) if (*task_uuid, *waited) == expected),
            "{late:?}"
        );
        let nothing = wait(tasker, Uuid::from_u128(1 << 20)).await;
        assert!(
            matches!(&nothing, Err(WaitError::Call(Error::NotFound(details))) if details.code == "TK001"),
            "{nothing:?}"
        );
    }
    Ok(())
}

/// Nothing but the feed tells so soon: a look now and then comes after a second, and ever more seldom.
#[tokio::test]
async fn a_wait_is_told_of_the_end_and_does_not_only_look_now_and_then() -> anyhow::Result<()> {
    for door in DOORS {
        // Where nobody else's transactions hold the feed.
        let own = OwnCluster::start().await?;
        let client = Client::connect(&own.url(), ConnectOptions::default()).await?;
        register(&client, &[PAYMENT]).await?;
        let server = Server::start(&own.url(), &[]).await?;
        let url = if door == Door::Sql {
            own.url()
        } else {
            server.url.clone()
        };
        let tasker = Tasker::connect(&url).await?;
        let mut waits = Vec::new();
        for _ in 0..5 {
            let task_uuid = tasker.create_task(&of("payment")).await?;
            waits.push((task_uuid, waiting(&tasker, task_uuid)));
        }
        let begun = Instant::now();
        eventually(
            "the looks are seldom: the next come after seven seconds",
            WITHIN,
            async || Ok((begun.elapsed() > Duration::from_millis(3500)).then_some(())),
        )
        .await?;
        let mut delays = Vec::new();
        for (task_uuid, wait) in waits {
            tasker.cancel_task(task_uuid, None).await?;
            let cancelled = Instant::now();
            let ended = wait.await?;
            assert!(matches!(ended, Err(WaitError::Cancelled(_))), "{ended:?}");
            delays.push(cancelled.elapsed());
        }
        delays.sort_unstable();
        eprintln!("{door:?}: {delays:?}");
        assert!(delays[2] < Duration::from_secs(1), "{door:?}: {delays:?}");
    }
    Ok(())
}

#[tokio::test]
async fn many_waits_share_one_connection_to_the_database_and_leave_none() -> anyhow::Result<()> {
    let application = application(Door::Sql).await?;
    let options = ConnectOptions {
        application_name: "waits".to_owned(),
        max_connections: 2,
        ..ConnectOptions::default()
    };
    let client = Client::connect(application.database.url(), options).await?;
    let tasker = Tasker::from(client);
    let connections = async || -> anyhow::Result<i64> {
        let count = "select count(*) from pg_stat_activity where datname = current_database() and application_name = 'waits'";
        Ok(sqlx::query_scalar(count)
            .fetch_one(application.database.pool())
            .await?)
    };
    let mut waits = Vec::new();
    for _ in 0..30 {
        let task_uuid = tasker.create_task(&of("payment")).await?;
        waits.push((task_uuid, waiting(&tasker, task_uuid)));
    }
    somebody_follows(application.client()).await?;
    // Who reads for all gives up, and another goes on.
    let (_, given_up) = waits.remove(0);
    given_up.abort();
    for (task_uuid, _) in &waits {
        assert!(connections().await? <= 3);
        tasker.cancel_task(*task_uuid, None).await?;
    }
    for (task_uuid, wait) in waits {
        let ended = wait.await?;
        assert!(
            matches!(&ended, Err(WaitError::Cancelled(task)) if task.task_uuid == task_uuid),
            "{ended:?}"
        );
    }
    eventually("nobody listens any more", WITHIN, async || {
        Ok((connections().await? <= 2).then_some(()))
    })
    .await?;
    Ok(())
}

#[tokio::test]
async fn a_server_that_is_restarted_meanwhile_is_waited_for() -> anyhow::Result<()> {
    let mut application = application(Door::Rest).await?;
    let task_uuid = application.tasker.create_task(&of("payment")).await?;
    let waiting = waiting(&application.tasker, task_uuid);
    let mut server = application.server.take().expect("a server");
    eventually("the wait follows", WITHIN, async || {
        let metrics = server
            .request(reqwest::Method::GET, "/metrics")
            .send()
            .await?
            .text()
            .await?;
        let follows = metrics
            .lines()
            .any(|line| line.starts_with("tasker_event_listeners 1"));
        Ok(follows.then_some(()))
    })
    .await?;
    server.program.kill().await?;
    // It ends while nobody is there to tell of it.
    complete(application.client(), "price", &json!(1)).await?;
    complete(application.client(), "pay", &json!({"paid": true})).await?;
    let address = server.url.trim_start_matches("http://");
    let _server = Server::start_at(address, application.database.url(), &[]).await?;
    let finished = waiting.await??;
    assert_eq!(
        finished.result::<Value>("pay").expect("it is there")?,
        json!({"paid": true})
    );
    Ok(())
}

#[tokio::test]
async fn a_database_that_is_restarted_meanwhile_is_waited_for() -> anyhow::Result<()> {
    for door in DOORS {
        let mut own = OwnCluster::start().await?;
        let client = Client::connect(&own.url(), ConnectOptions::default()).await?;
        register(&client, &[PAYMENT]).await?;
        let server = Server::start(&own.url(), &[]).await?;
        let url = if door == Door::Sql {
            own.url()
        } else {
            server.url.clone()
        };
        let tasker = Tasker::connect(&url).await?;
        let task_uuid = create(&client, "default", "payment", &json!({})).await?;
        let waiting = waiting(&tasker, task_uuid);
        somebody_follows(&client).await?;
        own.cluster.restart(StopMode::Fast)?;
        let client = Client::connect(&own.url(), ConnectOptions::default()).await?;
        complete(&client, "price", &json!(1)).await?;
        complete(&client, "pay", &json!({"paid": true})).await?;
        assert_eq!(
            waiting.await??.results["pay"].get(),
            "{\"paid\": true}",
            "{door:?}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_wait_ends_though_somebodys_transaction_holds_the_feed() -> anyhow::Result<()> {
    for door in DOORS {
        let application = application(door).await?;
        let tasker = &application.tasker;
        let mut other = application.database.session().await?;
        other
            .execute("begin; create table held (n integer)")
            .await?;
        let task_uuid = tasker.create_task(&of("payment")).await?;
        let wait = waiting(tasker, task_uuid);
        tasker.cancel_task(task_uuid, None).await?;
        let ended = wait.await?;
        assert!(matches!(ended, Err(WaitError::Cancelled(_))), "{ended:?}");
        let filter = EventFilter {
            task_uuid: Some(task_uuid),
            ..EventFilter::default()
        };
        let listed = application
            .client()
            .list_events(&filter, EventSpan::default())
            .await?;
        assert!(listed.is_empty(), "nothing has settled");
        other.execute("rollback").await?;
    }
    Ok(())
}

#[tokio::test]
async fn an_application_needs_no_more_than_its_role() -> anyhow::Result<()> {
    let application = application(Door::Sql).await?;
    let role = format!("app_{}", Uuid::now_v7().simple());
    let make = format!("create role {role} login in role tasker_client");
    sqlx::raw_sql(&make)
        .execute(application.database.pool())
        .await?;
    let own = application
        .database
        .url()
        .replace("postgres@", &format!("{role}@"));
    let tasker = Tasker::connect(&own).await?;
    let mut waits = Vec::new();
    // The second is told by the first, which reads for both.
    for _ in 0..2 {
        let task_uuid = tasker.create_task(&of("payment")).await?;
        waits.push((task_uuid, waiting(&tasker, task_uuid)));
    }
    somebody_follows(application.client()).await?;
    for (task_uuid, wait) in waits {
        let refused = tasker.cancel_task(task_uuid, None).await;
        assert!(matches!(refused, Err(Error::Denied(_))), "{refused:?}");
        application.client().cancel_task(task_uuid, None).await?;
        let ended = wait.await?;
        assert!(matches!(ended, Err(WaitError::Cancelled(_))), "{ended:?}");
    }
    tasker.sql().expect("it is SQL").close().await;
    sqlx::raw_sql(&format!("drop role {role}"))
        .execute(application.database.pool())
        .await?;
    Ok(())
}
