//! The SQL functions in one session, inside one transaction that is never committed.

use anyhow::{Context, bail};
use serde_json::{Value, json};
use sqlx::postgres::{PgDatabaseError, PgRow};
use sqlx::{Executor, FromRow, PgConnection};

use crate::database::TestDatabase;

/// Where the moved clock begins.
const BEGINNING: &str = "timestamptz '2030-01-01 00:00:00+00'";

/// A session in a transaction, in a database of its own, with the clock standing still. What it does is rolled back when this value is dropped.
#[derive(Debug)]
pub struct Scenario {
    session: PgConnection,
    database: TestDatabase,
}

/// An error as a caller sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The SQLSTATE.
    pub code: String,
    /// What is wrong.
    pub message: String,
    /// The facts; empty without.
    pub detail: String,
    /// What to do; empty without.
    pub hint: String,
}

/// An answer of `finish_steps`.
#[derive(Debug, Clone)]
pub struct Finished {
    /// One object for each outcome.
    pub verdicts: Vec<Value>,
    /// The steps claimed with the same call.
    pub claimed: Vec<Value>,
}

impl Finished {
    /// The bare verdicts, in order.
    #[must_use]
    pub fn words(&self) -> Vec<&str> {
        self.verdicts
            .iter()
            .filter_map(|verdict| verdict["verdict"].as_str())
            .collect()
    }

    /// The names of the claimed steps, in order.
    #[must_use]
    pub fn names(&self) -> Vec<&str> {
        names(&self.claimed)
    }
}

/// The names of claimed steps, in order.
#[must_use]
pub fn names(claimed: &[Value]) -> Vec<&str> {
    claimed
        .iter()
        .filter_map(|step| step["step_name"].as_str())
        .collect()
}

/// The outcome of a claimed step that was done.
#[must_use]
#[allow(
    clippy::needless_pass_by_value,
    reason = "it is written in place at every call"
)]
pub fn done(step: &Value, result: Value) -> Value {
    json!({"step_uuid": step["step_uuid"], "attempt": step["attempt"], "status": "complete", "result": result})
}

/// The outcome of a claimed step that failed; the error is `{message, …}`.
#[must_use]
#[allow(
    clippy::needless_pass_by_value,
    reason = "it is written in place at every call"
)]
pub fn failed(step: &Value, error: Value) -> Value {
    json!({"step_uuid": step["step_uuid"], "attempt": step["attempt"], "status": "fail", "error": error})
}

/// What a worker says of a claimed step without a result or an error: `release` or `yield`.
#[must_use]
pub fn given_back(step: &Value, status: &str) -> Value {
    json!({"step_uuid": step["step_uuid"], "attempt": step["attempt"], "status": status})
}

/// The key of a step, as text.
#[must_use]
pub fn key(step: &Value) -> &str {
    step["step_uuid"].as_str().unwrap_or_default()
}

impl Scenario {
    /// A new database and a transaction in it.
    pub async fn new() -> anyhow::Result<Self> {
        Self::within(TestDatabase::new().await?).await
    }

    /// A transaction in a database.
    pub async fn within(database: TestDatabase) -> anyhow::Result<Self> {
        let session = database.session().await?;
        let mut scenario = Self { session, database };
        scenario.run("begin").await?;
        scenario.clock(0).await?;
        Ok(scenario)
    }

    /// The database.
    #[must_use]
    pub fn database(&self) -> &TestDatabase {
        &self.database
    }

    /// The session itself.
    pub fn session(&mut self) -> &mut PgConnection {
        &mut self.session
    }

    /// Sets the clock to so many milliseconds after its beginning.
    pub async fn clock(&mut self, milliseconds: i64) -> anyhow::Result<()> {
        let set = format!(
            "select tasker._set_now({BEGINNING} + {milliseconds} * interval '1 millisecond')"
        );
        self.run(&set).await
    }

    /// Runs statements.
    pub async fn run(&mut self, sql: &str) -> anyhow::Result<()> {
        self.session
            .execute(sqlx::raw_sql(sql))
            .await
            .with_context(|| brief(sql))?;
        Ok(())
    }

    /// The one value that a query gives.
    pub async fn value<T>(&mut self, sql: &str) -> anyhow::Result<T>
    where
        (T,): for<'row> FromRow<'row, PgRow>,
        T: Send + Unpin,
    {
        let row: (T,) = sqlx::query_as(sql)
            .fetch_one(&mut self.session)
            .await
            .with_context(|| brief(sql))?;
        Ok(row.0)
    }

    /// The rows that a query gives, as objects.
    pub async fn rows(&mut self, sql: &str) -> anyhow::Result<Vec<Value>> {
        let wrapped = format!("select to_jsonb(rows_of_it) from ({sql}) rows_of_it");
        sqlx::query_scalar(&wrapped)
            .fetch_all(&mut self.session)
            .await
            .with_context(|| brief(sql))
    }

    /// The one row that a query gives, as an object.
    pub async fn row(&mut self, sql: &str) -> anyhow::Result<Value> {
        let rows = self.rows(sql).await?;
        match <[Value; 1]>::try_from(rows) {
            Ok([row]) => Ok(row),
            Err(rows) => bail!("{} rows instead of one: {}", rows.len(), brief(sql)),
        }
    }

    /// Runs statements that must fail, and goes on as if they had not been tried. What the transaction did before stays.
    pub async fn refused(&mut self, sql: &str) -> anyhow::Result<Refusal> {
        self.run("savepoint before_it").await?;
        let tried = self.session.execute(sqlx::raw_sql(sql)).await;
        self.run("rollback to before_it").await?;
        let Err(error) = tried else {
            bail!("this was not refused: {}", brief(sql));
        };
        refusal(&error)
    }

    /// Registers a template written in YAML.
    pub async fn register(&mut self, yaml: &str) -> anyhow::Result<()> {
        sqlx::query("select * from tasker.register_template($1::text)")
            .bind(yaml)
            .execute(&mut self.session)
            .await?;
        Ok(())
    }

    /// Creates a task with the arguments given as SQL, and gives its key.
    pub async fn create(&mut self, arguments: &str) -> anyhow::Result<String> {
        self.value(&format!("select tasker.create_task({arguments})::text"))
            .await
    }

    /// Claims steps of the namespace `default` for a worker.
    pub async fn claim(&mut self, worker: &str, max_steps: u32) -> anyhow::Result<Vec<Value>> {
        self.rows(&format!(
            "select * from tasker.claim_steps('{worker}', '{{default}}', {max_steps})"
        ))
        .await
    }

    /// Claims the one step that is to be had in the namespace `default`.
    pub async fn claim_one(&mut self) -> anyhow::Result<Value> {
        let claimed = self.claim("w", 10).await?;
        match <[Value; 1]>::try_from(claimed) {
            Ok([step]) => Ok(step),
            Err(claimed) => bail!("claimed {:?} instead of one step", names(&claimed)),
        }
    }

    /// Reports outcomes, and claims up to `claim_next` steps of the namespace `default`.
    pub async fn finish(
        &mut self,
        worker: &str,
        outcomes: Value,
        claim_next: u32,
    ) -> anyhow::Result<Finished> {
        self.finish_with(&format!(
            "'{worker}', {}, {claim_next}, namespaces => '{{default}}'",
            quoted(&outcomes)
        ))
        .await
    }

    /// Calls `finish_steps` with the arguments given as SQL.
    pub async fn finish_with(&mut self, arguments: &str) -> anyhow::Result<Finished> {
        let answer = self
            .row(&format!(
                "select verdicts, array_to_json(claimed) as claimed from tasker.finish_steps({arguments})"
            ))
            .await?;
        let list = |name: &str| answer[name].as_array().cloned().unwrap_or_default();
        Ok(Finished {
            verdicts: list("verdicts"),
            claimed: list("claimed"),
        })
    }

    /// Reports one outcome, and gives what is said of it: the verdict and its code, `-` without one.
    pub async fn verdict(&mut self, outcome: Value) -> anyhow::Result<String> {
        let answer = self.finish("w", json!([outcome]), 0).await?;
        let said = answer.verdicts.first().context("no verdict")?;
        let text = |name: &str| said[name].as_str().unwrap_or("-").to_owned();
        Ok(format!("{} {}", text("verdict"), text("code")))
    }

    /// Completes one claimed step with a result.
    pub async fn complete(&mut self, step: &Value, result: Value) -> anyhow::Result<()> {
        let answer = self.finish("w", json!([done(step, result)]), 0).await?;
        anyhow::ensure!(answer.words() == ["accepted"], "{:?}", answer.verdicts);
        Ok(())
    }

    /// Fails one claimed step.
    pub async fn fail(&mut self, step: &Value, error: Value) -> anyhow::Result<()> {
        let answer = self.finish("w", json!([failed(step, error)]), 0).await?;
        anyhow::ensure!(answer.words() == ["accepted"], "{:?}", answer.verdicts);
        Ok(())
    }

    /// The state of a task.
    pub async fn task_state(&mut self, task: &str) -> anyhow::Result<String> {
        self.value(&format!("select state from tasker.get_task('{task}')"))
            .await
    }

    /// The states of a task's steps, by their names.
    pub async fn step_states(&mut self, task: &str) -> anyhow::Result<Value> {
        self.value(&format!(
            "select jsonb_object_agg(name, state) from tasker.list_steps('{task}')"
        ))
        .await
    }

    /// The history of a task or a step as a path: `pending start initializing …`.
    pub async fn path(&mut self, function: &str, uuid: &str) -> anyhow::Result<String> {
        self.value(&format!(
            "select 'pending' || coalesce(string_agg(' -' || event || '-> ' || to_state, '' order by seq), '') from tasker.{function}('{uuid}')"
        ))
        .await
    }

    /// Fails when an invariant of the engine does not hold.
    pub async fn verify(&mut self) -> anyhow::Result<()> {
        let violations = self.violations().await?;
        anyhow::ensure!(violations.is_empty(), "verify() says: {violations:?}");
        Ok(())
    }

    /// The numbers and details of the invariants that do not hold.
    pub async fn violations(&mut self) -> anyhow::Result<Vec<String>> {
        sqlx::query_scalar("select invariant || ': ' || detail from tasker.verify() order by 1")
            .fetch_all(&mut self.session)
            .await
            .context("verify()")
    }
}

/// JSON as an SQL literal of type jsonb.
#[must_use]
pub fn quoted(value: &Value) -> String {
    format!("'{}'::jsonb", value.to_string().replace('\'', "''"))
}

/// An error of the database, taken apart.
pub fn refusal(error: &sqlx::Error) -> anyhow::Result<Refusal> {
    let Some(error) = error
        .as_database_error()
        .and_then(|error| error.try_downcast_ref::<PgDatabaseError>())
    else {
        bail!("not the database's error: {error}");
    };
    Ok(Refusal {
        code: error.code().to_owned(),
        message: error.message().to_owned(),
        detail: error.detail().unwrap_or_default().to_owned(),
        hint: error.hint().unwrap_or_default().to_owned(),
    })
}

/// As much of a statement as tells it from others.
fn brief(sql: &str) -> String {
    sql.chars().take(500).collect()
}
