//! A database with the examples and a worker on it.

use serde_json::Value;
use tasker_client::Client;
use uuid::Uuid;

use crate::database::TestDatabase;
use crate::following;
use crate::program::Program;

/// The real worker on a database of one test's own.
#[derive(Debug)]
pub struct Stage {
    /// The database, with the example templates registered.
    pub database: TestDatabase,
    /// The worker.
    pub worker: Program,
}

impl Stage {
    /// Prepares the database and starts the worker.
    pub async fn new(worker_arguments: &[&str]) -> anyhow::Result<Self> {
        let database = TestDatabase::with_examples().await?;
        let worker = Program::worker(database.url(), worker_arguments)?;
        Ok(Self { database, worker })
    }

    /// The client's typed functions on the database.
    #[must_use]
    pub fn client(&self) -> &Client {
        self.database.client()
    }

    /// Creates a task and waits until it is complete.
    pub async fn run(
        &self,
        namespace: &str,
        template: &str,
        context: &Value,
    ) -> anyhow::Result<Uuid> {
        let task_uuid = following::create(self.client(), namespace, template, context).await?;
        following::completed(self.client(), task_uuid).await?;
        Ok(task_uuid)
    }

    /// The result of one of a task's steps.
    pub async fn result(&self, task_uuid: Uuid, name: &str) -> anyhow::Result<Value> {
        following::result(self.client(), task_uuid, name).await
    }
}
