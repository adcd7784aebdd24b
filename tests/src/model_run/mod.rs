//! The engine's model beside a real database: operations as chance has it, done to both, and compared.

mod children;
mod results;
mod sql;
mod templates;
mod turns;
mod work;

use std::collections::BTreeSet;

use anyhow::{Context, ensure};
use sqlx::{Executor, PgConnection};
use tasker_rules::key::step_key;
use uuid::Uuid;

use sql::Runner;

use crate::database::TestDatabase;
use crate::model::{Answer, Chance, Kind, Millis, Model, Place, Row, written};

const SESSIONS: usize = 3;
const RUNNERS: usize = 2;

/// The model, the database beside it, and the claims that somebody holds, or held.
#[derive(Debug)]
pub struct Run {
    model: Model,
    sessions: Vec<PgConnection>,
    chance: Chance,
    /// Those that run SQL steps.
    runners: Vec<Runner>,
    claims: Vec<(Place, i32)>,
    task_uuids: Vec<Uuid>,
    trail: Vec<String>,
}

impl Run {
    /// On a fresh database, with the templates of a seed.
    pub async fn new(database: &TestDatabase, seed: u64) -> anyhow::Result<Self> {
        let mut sessions = Vec::new();
        for _ in 0..SESSIONS {
            sessions.push(database.session().await?);
        }
        let mut chance = Chance::new(seed);
        let templates = templates::all(&mut chance);
        sql::prepare(database, &mut sessions[0]).await?;
        for template in &templates {
            sqlx::query("select from tasker.register_template($1::jsonb)")
                .bind(written(template))
                .execute(&mut sessions[0])
                .await
                .with_context(|| written(template))?;
        }
        sessions[0].execute("reset role").await?;
        let mut runners = Vec::new();
        for _ in 0..RUNNERS {
            runners.push(Runner::new(database).await?);
        }
        let mut run = Self {
            model: Model::new(templates),
            sessions,
            chance,
            runners,
            claims: Vec::new(),
            task_uuids: Vec::new(),
            trail: Vec::new(),
        };
        run.pass(0).await?;
        Ok(run)
    }

    /// What has been done last.
    #[must_use]
    pub fn last(&self, count: usize) -> String {
        let from = self.trail.len().saturating_sub(count);
        self.trail[from..].join("\n")
    }

    /// The states of the model's tasks.
    pub fn states(&self) -> impl Iterator<Item = &'static str> {
        self.model.tasks.iter().map(|task| task.state)
    }

    /// The kinds of steps that are complete somewhere.
    #[must_use]
    pub fn kinds_done(&self) -> BTreeSet<&'static str> {
        let tasks = self.model.tasks.iter();
        let steps = tasks.flat_map(|task| task.steps.iter().map(move |step| (task, step)));
        steps
            .filter(|(_, (_, step))| step.state == "complete")
            .map(|(task, (&position, _))| match task.template.row(position) {
                Row::Undo(..) => "compensation",
                Row::Instance(..) => "instance",
                Row::Step(of) => match task.template.steps[of].kind {
                    Kind::Signal { .. } => "signal",
                    Kind::Timer(_) => "timer",
                    Kind::Child { .. } => "task",
                    Kind::Sql => "SQL step",
                    _ => "step of a worker",
                },
            })
            .collect()
    }

    fn session(&mut self) -> &mut PgConnection {
        let index = self.chance.below(SESSIONS);
        &mut self.sessions[index]
    }

    fn key(&self, (number, position): Place) -> Uuid {
        let task = self.task_uuids[number].as_u128();
        Uuid::from_u128(step_key(task, position as u32 + 1).unwrap_or_default())
    }

    /// Runs a call that is refused exactly as the model refuses it.
    async fn call(&mut self, call: String, expected: Answer) -> anyhow::Result<()> {
        self.trail.push(format!("{call} -- {expected:?}"));
        let session = self.session();
        let done = session.execute(sqlx::raw_sql(&call)).await;
        if done.is_err() {
            // The refusal is told before the locks are given back, which others pass over.
            session.execute("select 1").await?;
        }
        let code = done
            .as_ref()
            .err()
            .and_then(sqlx::Error::as_database_error)
            .and_then(sqlx::error::DatabaseError::code);
        let is_expected = match (&done, expected) {
            (Ok(_), Answer::Done) => true,
            (Err(_), Answer::Refused(expected)) => code.as_deref() == Some(expected),
            _ => false,
        };
        ensure!(
            is_expected,
            "{code:?} ({done:?}), and in the model {expected:?}: {call}"
        );
        Ok(())
    }

    async fn pass(&mut self, milliseconds: Millis) -> anyhow::Result<()> {
        self.model.pass(milliseconds);
        self.trail.push(format!("the time is {}", self.model.now));
        let runners = self.runners.iter_mut().map(Runner::session);
        for session in self.sessions.iter_mut().chain(runners) {
            sqlx::query("select tasker._set_now(timestamptz '2030-01-01 00:00:00+00' + $1 * interval '1 millisecond')")
                .bind(self.model.now)
                .execute(session)
                .await?;
        }
        Ok(())
    }

    /// Every task, step and timer is where the model says.
    pub async fn compare(&mut self) -> anyhow::Result<()> {
        self.compare_tasks().await?;
        self.compare_steps().await?;
        self.compare_timers().await
    }

    async fn compare_tasks(&mut self) -> anyhow::Result<()> {
        let tasks: Vec<(Uuid, String)> =
            sqlx::query_as("select task_uuid, state from tasker.tasks order by task_uuid")
                .fetch_all(self.session())
                .await?;
        let mut expected: Vec<(Uuid, String)> = self
            .task_uuids
            .iter()
            .zip(&self.model.tasks)
            .map(|(&task_uuid, task)| (task_uuid, task.state.to_owned()))
            .collect();
        expected.sort_unstable();
        ensure!(tasks.len() == expected.len());
        for (found, expected) in tasks.iter().zip(&expected) {
            ensure!(
                found == expected,
                "a task is {found:?}, not {expected:?}: {}",
                self.about(found.0)
            );
        }
        Ok(())
    }

    async fn compare_steps(&mut self) -> anyhow::Result<()> {
        let steps: Vec<(Uuid, String, i32, i32, i32)> = sqlx::query_as(
            "select step_uuid, state, attempt, attempts_used, remaining_dependencies from tasker.steps order by step_uuid",
        )
        .fetch_all(self.session())
        .await?;
        let mut expected = Vec::with_capacity(steps.len());
        for (number, task) in self.model.tasks.iter().enumerate() {
            if !task.has_started() {
                continue;
            }
            let counters = task.counters();
            for (&position, step) in &task.steps {
                expected.push((
                    self.key((number, position)),
                    step.state.to_owned(),
                    step.attempt,
                    step.attempts_used,
                    task.remaining(position, &counters),
                ));
            }
        }
        expected.sort_unstable();
        for (found, expected) in steps.iter().zip(&expected) {
            ensure!(
                found == expected,
                "a step is {found:?}, not {expected:?}: {}",
                self.about(found.0)
            );
        }
        ensure!(steps.len() == expected.len());
        Ok(())
    }

    async fn compare_timers(&mut self) -> anyhow::Result<()> {
        let timers: Vec<(Uuid, Millis)> = sqlx::query_as(
            "select step_uuid, (extract(epoch from due_at - timestamptz '2030-01-01 00:00:00+00') * 1000)::bigint from tasker.timers order by step_uuid",
        )
        .fetch_all(self.session())
        .await?;
        let mut expected = Vec::with_capacity(timers.len());
        for (number, task) in self.model.tasks.iter().enumerate() {
            let waiting = task.steps.iter();
            let waiting =
                waiting.filter_map(|(&position, step)| Some((position, step.waits_until()?)));
            expected.extend(waiting.map(|(position, until)| (self.key((number, position)), until)));
        }
        expected.sort_unstable();
        ensure!(
            timers == expected,
            "timers are {timers:?}, not {expected:?}"
        );
        Ok(())
    }

    /// The template and the model's steps of the task that a step belongs to.
    fn about(&self, step: Uuid) -> String {
        let task = step.as_u128() & !0xf_ffff;
        let number = self
            .task_uuids
            .iter()
            .position(|task_uuid| task_uuid.as_u128() == task);
        number.map_or_else(String::new, |number| {
            let task = &self.model.tasks[number];
            format!("{}\n{:#?}", written(&task.template), task)
        })
    }

    /// The invariants hold.
    pub async fn verify(&mut self) -> anyhow::Result<()> {
        let violations: Vec<String> =
            sqlx::query_scalar("select invariant || ': ' || detail from tasker.verify()")
                .fetch_all(self.session())
                .await?;
        ensure!(violations.is_empty(), "verify() says {violations:?}");
        Ok(())
    }
}
