//! A database whose templates have SQL functions, and a role that registers them.

use anyhow::{Context, ensure};
use serde_json::Value;
use sqlx::{Executor, PgConnection};

use crate::database::TestDatabase;
use crate::scenario::{Refusal, refusal};

/// A database with a role that has a schema `bank` and registers templates.
#[derive(Debug)]
pub struct Bank {
    /// The database.
    pub database: TestDatabase,
    /// The role; its name is of this test only.
    pub role: String,
    /// A session of the superuser.
    pub admin: PgConnection,
}

impl Bank {
    /// With functions in the schema, each given by its name and body in PL/pgSQL, and a template with a step for each, which is tried twice.
    pub async fn new(functions: &[(&str, &str)]) -> anyhow::Result<Self> {
        let database = TestDatabase::new().await?;
        let role = format!("teller_of_{}", database.name());
        let admin = database.session().await?;
        let mut bank = Self {
            database,
            role,
            admin,
        };
        bank.run(
            "create role {role};
             create schema bank authorization {role};
             grant usage on schema tasker to {role};
             grant execute on all functions in schema tasker to {role};
             create table bank.notes (note text);
             alter table bank.notes owner to {role}",
        )
        .await?;
        for (name, body) in functions {
            bank.function(name, body).await?;
        }
        let steps: Vec<String> = functions
            .iter()
            .map(|(name, _)| {
                format!("{{name: {name}, handler: {{callable: 'sql:bank.{name}'}}, timeout_seconds: 30, retry: {{max_attempts: 2, backoff: none, jitter: 0}}}}")
            })
            .collect();
        if !steps.is_empty() {
            bank.register(&steps.join(", ")).await?;
        }
        Ok(bank)
    }

    /// A function of the role in the schema, with a body in PL/pgSQL.
    pub async fn function(&mut self, name: &str, body: &str) -> anyhow::Result<()> {
        self.run(&format!(
            "set role {{role}};
             create function bank.{name}(context jsonb, inputs jsonb, dependency_results jsonb) returns jsonb language plpgsql as $f$ {body} $f$;
             reset role"
        ))
        .await
    }

    /// Runs statements as the superuser. `{role}` is the role.
    pub async fn run(&mut self, statements: &str) -> anyhow::Result<()> {
        let statements = statements.replace("{role}", &self.role);
        self.admin
            .execute(sqlx::raw_sql(&statements))
            .await
            .context(statements.clone())?;
        Ok(())
    }

    /// Registers the template `t` with steps written in YAML, as the role.
    pub async fn register(&mut self, steps: &str) -> anyhow::Result<()> {
        self.run(&format!("set role {{role}}; select tasker.register_template($t${{name: t, version: 1.0.0, steps: [{steps}]}}$t$::text); reset role"))
            .await
    }

    /// How statements are refused.
    pub async fn refused(&mut self, statements: &str) -> anyhow::Result<Refusal> {
        let statements = statements.replace("{role}", &self.role);
        let tried = self.admin.execute(sqlx::raw_sql(&statements)).await;
        self.admin.execute("reset role").await?;
        match tried {
            Ok(_) => anyhow::bail!("not refused: {statements}"),
            Err(error) => refusal(&error),
        }
    }

    /// The one value that a query gives the superuser.
    pub async fn value<T>(&mut self, query: &str) -> anyhow::Result<T>
    where
        T: for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres> + Send + Unpin,
    {
        let query = query.replace("{role}", &self.role);
        sqlx::query_scalar(&query)
            .fetch_one(&mut self.admin)
            .await
            .context(query.clone())
    }

    /// Creates a task of the template `t`.
    pub async fn create(&mut self) -> anyhow::Result<String> {
        self.value("select tasker.create_task('t', context => '{\"amount\": 1.10}')::text")
            .await
    }

    /// Runs steps in the superuser's session until none is ready, and says what became of each.
    pub async fn drain(&mut self) -> anyhow::Result<Vec<String>> {
        drain(&mut self.admin).await
    }

    /// Creates a task, runs its steps, and gives them.
    pub async fn ran(&mut self) -> anyhow::Result<Value> {
        let task = self.create().await?;
        self.drain().await?;
        self.steps(&task).await
    }

    /// The steps of a task, by their names.
    pub async fn steps(&mut self, task: &str) -> anyhow::Result<Value> {
        self.value(&format!(
            "select jsonb_object_agg(s.name, to_jsonb(s)) from tasker.list_steps('{task}') s"
        ))
        .await
    }

    /// What is left in order: the invariants hold, and nothing is claimed.
    pub async fn end(mut self) -> anyhow::Result<()> {
        let broken: Vec<String> = sqlx::query_scalar("select detail from tasker.verify()")
            .fetch_all(&mut self.admin)
            .await?;
        ensure!(broken.is_empty(), "{broken:?}");
        self.run("drop owned by {role} cascade; drop role {role}")
            .await
    }
}

/// Runs steps in a session until none is ready, and says what became of each.
pub async fn drain(session: &mut PgConnection) -> anyhow::Result<Vec<String>> {
    let mut outcomes = Vec::new();
    loop {
        let (outcome, more): (Option<String>, bool) =
            sqlx::query_as("select outcome, more from tasker.run_sql_step()")
                .fetch_one(&mut *session)
                .await?;
        outcomes.extend(outcome);
        if !more {
            return Ok(outcomes);
        }
    }
}
