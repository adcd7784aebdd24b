//! What the server does when it is full, when the database is slow, and when it is told to stop: every caller is answered, and nothing is left behind.

use std::time::Duration;

use anyhow::Context;
use reqwest::Method;
use serde_json::json;
use sqlx::{Executor, PgConnection};
use tasker_tests::http::{Answer, answer};
use tasker_tests::{Server, Signal, TestDatabase, eventually, signal};
use tokio::net::TcpStream;

const WITHIN: Duration = Duration::from_secs(30);

/// A server on a database whose calls about tasks wait until the session is done.
struct Held {
    database: TestDatabase,
    server: Server,
    holder: PgConnection,
}

impl Held {
    async fn new(flags: &[&str]) -> anyhow::Result<Self> {
        let database = TestDatabase::with_examples().await?;
        let quiet = ["--no-maintenance", "--sql-runners", "0"];
        let server = Server::start(database.url(), &[&quiet, flags].concat()).await?;
        let mut holder = database.session().await?;
        holder.execute("begin").await?;
        holder
            .execute("lock table tasker.tasks in access exclusive mode")
            .await?;
        Ok(Self {
            database,
            server,
            holder,
        })
    }

    async fn release(&mut self) -> anyhow::Result<()> {
        self.holder.execute("rollback").await?;
        Ok(())
    }

    async fn tasks(&self) -> anyhow::Result<i64> {
        let count = sqlx::query_scalar("select count(*) from tasker.tasks");
        Ok(count.fetch_one(self.database.pool()).await?)
    }

    /// A request to create a task, on its way by itself.
    fn creates(&self) -> tokio::task::JoinHandle<anyhow::Result<Answer>> {
        let body = json!({"template_name": "linear_workflow", "namespace": "example"});
        let request = self.server.request(Method::POST, "/v1/tasks").json(&body);
        tokio::spawn(answer(request))
    }
}

#[tokio::test]
async fn a_full_server_says_so_at_once_and_serves_those_under_way() -> anyhow::Result<()> {
    let mut held = Held::new(&["--concurrent-requests", "2"]).await?;
    let under_way = [held.creates(), held.creates()];
    held.database.until_calls_wait(2).await?;
    let refused = held.server.get("/v1/templates").await?;
    assert_eq!(
        (
            refused.status,
            refused.code(),
            refused.retry_after.as_deref()
        ),
        (503, "server_busy", Some("1")),
        "{refused:?}"
    );
    assert!(refused.body["error"]["request_id"].is_string());
    assert_eq!(held.server.get("/health/live").await?.status, 200);

    held.release().await?;
    for request in under_way {
        assert_eq!(request.await??.status, 201);
    }
    assert_eq!(held.server.get("/v1/templates").await?.status, 200);
    assert_eq!(held.tasks().await?, 2);
    Ok(())
}

#[tokio::test]
async fn a_request_that_takes_too_long_is_cut_in_the_database_as_well() -> anyhow::Result<()> {
    let mut held = Held::new(&["--request-timeout-seconds", "1"]).await?;
    let request = held.creates();
    held.database.until_calls_wait(1).await?;
    let late = request.await??;
    assert_eq!(late.status, 504, "{late:?}");
    assert!(
        ["57014", "request_timed_out"].contains(&late.code()),
        "{late:?}"
    );
    // The lock is held still: it wasn't got.
    held.database.until_calls_wait(0).await?;
    held.release().await?;
    assert_eq!(held.tasks().await?, 0);
    let next = held.creates().await??;
    assert_eq!((next.status, held.tasks().await?), (201, 1));
    Ok(())
}

#[tokio::test]
async fn a_server_that_stops_answers_what_is_under_way_and_takes_nothing_new() -> anyhow::Result<()>
{
    let mut held = Held::new(&[]).await?;
    let request = held.creates();
    held.database.until_calls_wait(1).await?;
    let process = held.server.program.process().context("it has ended")?;
    signal(process, Signal::TERM)?;
    let address = held.server.url.trim_start_matches("http://").to_owned();
    eventually("no connection is taken", WITHIN, async || {
        Ok(TcpStream::connect(&address).await.is_err().then_some(()))
    })
    .await?;
    assert!(!request.is_finished());

    held.release().await?;
    let answered = request.await??;
    assert_eq!(
        (answered.status, &answered.body["created"]),
        (201, &json!(true))
    );
    let ended = held.server.program.ended(WITHIN).await?;
    assert!(ended.success(), "{}", held.server.program.log());
    assert_eq!(held.tasks().await?, 1);
    Ok(())
}

#[tokio::test]
async fn a_stop_waits_no_longer_than_it_is_told() -> anyhow::Result<()> {
    let mut held = Held::new(&["--shutdown-timeout-seconds", "1"]).await?;
    let request = held.creates();
    held.database.until_calls_wait(1).await?;
    let ended = held.server.program.terminate(WITHIN).await?;
    assert!(ended.success(), "{}", held.server.program.log());
    assert!(
        held.server
            .program
            .log()
            .contains("with requests under way")
    );
    assert!(request.await?.is_err(), "its connection was closed");
    held.release().await
}
