//! A fresh database for one test.

use std::time::Duration;

use sqlx::{Connection, PgConnection, PgPool};
use tasker_client::{Client, ConnectOptions};

use crate::cluster::{SharedCluster, TEMPLATE, TEST_DATABASE};
use crate::examples;
use crate::folders::unique_name;
use crate::waiting::eventually;

const SESSIONS: u32 = 10;
/// What the lines of a message in the server's log begin with, after its first.
const CONTINUATIONS: [&str; 4] = ["DETAIL:  ", "HINT:  ", "CONTEXT:  ", "STATEMENT:  "];
const WAIT_WITHIN: Duration = Duration::from_secs(30);

/// A database of one test's own on the shared cluster. It is dropped, with every session in it, when this value is.
#[derive(Debug)]
pub struct TestDatabase {
    name: String,
    url: String,
    client: Client,
    shared: &'static SharedCluster,
}

impl TestDatabase {
    /// A database with PGMQ and Tasker in it, and nothing else.
    pub async fn new() -> anyhow::Result<Self> {
        Self::copy_of(Some(TEMPLATE)).await
    }

    /// The same with the example templates registered.
    pub async fn with_examples() -> anyhow::Result<Self> {
        let database = Self::new().await?;
        examples::register(database.client()).await?;
        Ok(database)
    }

    /// A database with nothing in it.
    pub async fn empty() -> anyhow::Result<Self> {
        Self::copy_of(None).await
    }

    async fn copy_of(template: Option<&str>) -> anyhow::Result<Self> {
        let shared = SharedCluster::get().await?;
        let name = format!("{TEST_DATABASE}{}", unique_name());
        shared.cluster.create_database(&name, template)?;
        let url = shared.cluster.url(&name);
        let options = ConnectOptions {
            max_connections: SESSIONS,
            application_name: "tasker-tests".to_owned(),
            ..ConnectOptions::default()
        };
        let client = Client::connect(&url, options).await?;
        Ok(Self {
            name,
            url,
            client,
            shared,
        })
    }

    /// The client's typed functions on it.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// A pool of sessions, for SQL.
    #[must_use]
    pub fn pool(&self) -> &PgPool {
        self.client.pool()
    }

    /// One more session, outside the pool.
    pub async fn session(&self) -> anyhow::Result<PgConnection> {
        Ok(PgConnection::connect(&self.url).await?)
    }

    /// Waits until so many calls of a server wait for what a session has locked.
    pub async fn until_calls_wait(&self, count: i64) -> anyhow::Result<()> {
        let query = "select count(*) from pg_stat_activity a where a.application_name = 'tasker-server' and a.wait_event_type = 'Lock' \
            and a.datname = current_database()";
        eventually("so many calls wait", WAIT_WITHIN, async || {
            let waiting: i64 = sqlx::query_scalar(query).fetch_one(self.pool()).await?;
            Ok((waiting == count).then_some(()))
        })
        .await
    }

    /// What the server has said of deadlocks: who waited for whom, with which statements.
    #[must_use]
    pub fn said_of_deadlocks(&self) -> String {
        let log = std::fs::read_to_string(self.shared.cluster.log()).unwrap_or_default();
        let mut said = String::new();
        let mut is_of_one = false;
        for line in log.lines() {
            // Lines of a message after its first are indented.
            if !line.starts_with('\t') && !CONTINUATIONS.iter().any(|word| line.contains(word)) {
                is_of_one = line.contains("deadlock detected");
            }
            if is_of_one {
                said.push_str(line);
                said.push('\n');
            }
        }
        said
    }

    /// Its address.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Its name in the cluster.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The path of one of PostgreSQL's programs (`psql`, `pg_dump`, …).
    #[must_use]
    pub fn program(&self, name: &str) -> std::path::PathBuf {
        self.shared.cluster.program(name)
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        // What stays is dropped by the next test process.
        let _ = self.shared.cluster.drop_database(&self.name);
    }
}
