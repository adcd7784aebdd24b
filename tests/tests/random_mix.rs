//! Eight sessions that create, claim, finish, fail, give back, extend, cancel, repair and rerun as chance has it, inline and deferred: no deadlock, no error that isn't a verdict, and every
//! invariant at the end.
//!
//! A run that fails prints its seed; `TASKER_MODEL_SEED=1 cargo test -p tasker-tests --test random_mix` takes the same chances again, though not in the same order, and `TASKER_MODEL_OPERATIONS` sets
//! how many turns each session has.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use sqlx::Executor;
use tasker_client::{
    ClaimRequest, ClaimedStep, Client, ConnectOptions, Definition, FinishRequest, HeldStep,
    Outcome, OutcomeStatus, StepError, TaskFilter,
};
use tasker_tests::TestDatabase;
use tasker_tests::following::{create, verified};
use tasker_tests::model::{Chance, operations, seed};
use uuid::Uuid;

const SESSIONS: u64 = 8;
/// So that leases end and retries come due within the test.
const CLOCK_RUNS_FASTER: f64 = 40.0;
const TURNS: u64 = 400;
const WIDE: &str = "{name: wide, version: 1.0.0, steps: [
  {name: a, handler: {callable: t.a}, retry: {max_attempts: 2, backoff: none}},
  {name: b, handler: {callable: t.a}, dependencies: [a]},
  {name: c, handler: {callable: t.a}, dependencies: [a], retry: {max_attempts: 4, backoff: linear, backoff_base_ms: 1, jitter: 0}},
  {name: d, handler: {callable: t.a}, dependencies: [a]},
  {name: e, handler: {callable: t.a}, dependencies: [b, c, d]},
  {name: f, handler: {callable: t.a}, dependencies: [c]}]}";

/// A join of so many branches is locked after all else.
const BRANCHES: usize = 18;

/// What is decided, joined and made while a task runs.
const DYNAMIC: &str = "{name: dynamic, version: 1.0.0, steps: [
  {name: list, handler: {callable: t.a}},
  {name: route, type: decision, handler: {callable: t.a}, dependencies: [list]},
  {name: left, handler: {callable: t.a}, dependencies: [route]},
  {name: cut, type: batchable, handler: {callable: t.a}, dependencies: [route], batch_config: {parallelism: 2, failure_strategy: fail_fast}},
  {name: work, type: batch_worker, handler: {callable: t.a}, dependencies: [cut], retry: {max_attempts: 2, backoff: none}},
  {name: each, type: map, over: list.items, handler: {callable: t.a}, dependencies: [list], failure_strategy: isolate, retry: {max_attempts: 2, backoff: none}},
  {name: join, type: deferred_convergence, handler: {callable: t.a}, dependencies: [left, work, each]},
  {name: end, handler: {callable: t.a}, dependencies: [join]}]}";

/// The templates that tasks are made of: one of every shape, and the same deferred.
fn templates() -> Vec<String> {
    let names: Vec<String> = (0..BRANCHES).map(|number| format!("s{number}")).collect();
    let branches: Vec<String> = names
        .iter()
        .map(|name| format!("{{name: {name}, handler: {{callable: t.a}}, retry: {{max_attempts: 2, backoff: none}}}}"))
        .collect();
    let joined = format!(
        "{{name: joined, version: 1.0.0, steps: [{}, {{name: join, handler: {{callable: t.a}}, dependencies: [{}]}}]}}",
        branches.join(", "),
        names.join(", ")
    );
    let deferred = |template: &str, name: &str| {
        template.replace(
            &format!("name: {name}, version: 1.0.0,"),
            &format!("name: {name}_deferred, version: 1.0.0, lifecycle: {{evaluation: deferred, on_failure: block}},"),
        )
    };
    vec![
        deferred(DYNAMIC, "dynamic"),
        DYNAMIC.to_owned(),
        deferred(WIDE, "wide"),
        deferred(&joined, "joined"),
        WIDE.to_owned(),
        joined,
    ]
}

const NAMES: [&str; 6] = [
    "wide",
    "wide_deferred",
    "joined",
    "joined_deferred",
    "dynamic",
    "dynamic_deferred",
];

/// One of the sessions, with what it has claimed.
struct Session {
    client: Client,
    worker_id: String,
    chance: Chance,
    held: Vec<ClaimedStep>,
    begun: Instant,
}

impl Session {
    fn namespaces() -> Vec<String> {
        vec!["default".to_owned()]
    }

    async fn turn(&mut self) -> anyhow::Result<()> {
        let passed = self.begun.elapsed().as_secs_f64() * CLOCK_RUNS_FASTER;
        sqlx::query("select tasker._set_now(clock_timestamp() + make_interval(secs => $1))")
            .bind(passed)
            .execute(self.client.pool())
            .await?;
        match self.chance.below(14) {
            0 => {
                let name = NAMES[self.chance.below(NAMES.len())];
                create(&self.client, "default", name, &json!({})).await?;
            }
            1 | 2 => self.claim().await?,
            3 => self.cancel().await?,
            4 => self.extend().await?,
            5 => self.maintain().await?,
            6 => self.lose_a_message().await?,
            7 => self.repair().await?,
            8 => self.rerun().await?,
            _ => self.finish().await?,
        }
        Ok(())
    }

    async fn claim(&mut self) -> anyhow::Result<()> {
        let request = ClaimRequest {
            worker_id: self.worker_id.clone(),
            namespaces: Self::namespaces(),
            max_steps: 10,
            lease: self.lease(),
            handlers: None,
        };
        self.held.extend(self.client.claim_steps(&request).await?);
        Ok(())
    }

    async fn cancel(&mut self) -> anyhow::Result<()> {
        if self.chance.below(4) != 0 {
            return Ok(());
        }
        let filter = TaskFilter {
            states: Some(vec!["steps_in_process".to_owned()]),
            limit: Some(20),
            ..TaskFilter::default()
        };
        let tasks = self.client.list_tasks(&filter).await?;
        if tasks.is_empty() {
            return Ok(());
        }
        let task = &tasks[self.chance.below(tasks.len())];
        match self.client.cancel_task(task.task_uuid, None).await {
            Err(error) if error.code() == Some("TK010") => Ok(()),
            other => Ok(other.map(drop)?),
        }
    }

    /// An operator does something to a step that failed, or to any.
    async fn repair(&mut self) -> anyhow::Result<()> {
        let failed = self.chance.below(4) != 0;
        let step: Option<Uuid> = sqlx::query_scalar(
            "select step_uuid from tasker.steps where not $1 or state = 'error' order by random() limit 1",
        )
        .bind(failed)
        .fetch_optional(self.client.pool())
        .await?;
        let Some(step) = step else { return Ok(()) };
        let call = match self.chance.below(3) {
            0 => "select tasker.reset_step($1)",
            1 => "select tasker.resolve_step($1, 'as chance has it')",
            // Of a decision no choice: refused.
            _ => "select tasker.complete_step_manually($1, '7')",
        };
        self.operate(call, step).await
    }

    async fn rerun(&mut self) -> anyhow::Result<()> {
        if self.chance.below(3) != 0 {
            return Ok(());
        }
        let task: Option<Uuid> = sqlx::query_scalar(
            "select task_uuid from tasker.tasks where finished_at is not null order by random() limit 1",
        )
        .fetch_optional(self.client.pool())
        .await?;
        let Some(task) = task else { return Ok(()) };
        let call = match self.chance.below(3) {
            0 => "select tasker.rerun_task($1)",
            1 => "select tasker.rerun_task($1, (select name from tasker.list_steps($1) limit 1))",
            _ => {
                "select tasker.rerun_task($1, (select name from tasker.list_steps($1) limit 1), false)"
            }
        };
        self.operate(call, task).await
    }

    /// What doesn't fit the state it finds is refused with TK010, what is no step with TK002, and what is no result of a step with TK021.
    async fn operate(&self, call: &str, key: Uuid) -> anyhow::Result<()> {
        let done = sqlx::query(call)
            .bind(key)
            .execute(self.client.pool())
            .await;
        match done {
            Err(sqlx::Error::Database(error))
                if error
                    .code()
                    .is_some_and(|code| ["TK002", "TK010", "TK021"].contains(&&*code)) =>
            {
                Ok(())
            }
            other => Ok(other.map(drop)?),
        }
    }

    /// Job by job, as the programs do it.
    async fn maintain(&mut self) -> anyhow::Result<()> {
        for job in self.client.list_due_jobs().await? {
            self.client.run_maintenance_job(&job, 50).await?;
        }
        Ok(())
    }

    /// What may happen to a queue behind the engine's back.
    async fn lose_a_message(&mut self) -> anyhow::Result<()> {
        if self.chance.below(4) == 0 {
            let lose = "delete from pgmq.q_worker_default_queue where msg_id = \
                (select msg_id from pgmq.q_worker_default_queue order by random() limit 1 for update skip locked)";
            self.client.pool().execute(lose).await?;
        }
        Ok(())
    }

    /// Some leases end before their steps are finished.
    fn lease(&mut self) -> Duration {
        match self.chance.below(3) {
            0 => Duration::from_secs(1),
            _ => Duration::from_mins(1),
        }
    }

    async fn extend(&mut self) -> anyhow::Result<()> {
        let lease = self.lease();
        let held: Vec<_> = self
            .held
            .iter()
            .map(|step| HeldStep {
                step_uuid: step.step_uuid,
                attempt: step.attempt,
            })
            .collect();
        let verdicts = self
            .client
            .extend_leases(&self.worker_id, &held, lease)
            .await?;
        ensure!(verdicts.len() == held.len());
        Ok(())
    }

    async fn finish(&mut self) -> anyhow::Result<()> {
        let count = self.chance.below(self.held.len() + 1);
        let outcomes: Vec<_> = self.held.drain(..count).collect();
        let outcomes = outcomes.iter().map(|step| self.outcome(step)).collect();
        let request = FinishRequest {
            worker_id: self.worker_id.clone(),
            claim_next: self.chance.below(4) as u32,
            lease: self.lease(),
            namespaces: Some(Self::namespaces()),
            handlers: None,
            request_id: (self.chance.below(2) == 0).then(Uuid::new_v4),
            outcomes,
        };
        let finished = self.client.finish_steps(&request).await?;
        ensure!(finished.verdicts.len() == request.outcomes.len());
        self.held.extend(finished.claimed);
        Ok(())
    }

    fn result(&mut self, step: &ClaimedStep) -> Value {
        match step.step_name.as_str() {
            "list" => json!({"items": (0..self.chance.below(6)).collect::<Vec<_>>()}),
            "cut" => json!({"batch": {"cursors": (0..self.chance.below(6)).collect::<Vec<_>>()}}),
            "route" => {
                let all = [&[][..], &["left"], &["cut"], &["left", "cut"]];
                json!({"decision": {"steps": all[self.chance.below(4)]}})
            }
            _ => json!({"n": 1}),
        }
    }

    fn outcome(&mut self, step: &ClaimedStep) -> Outcome {
        let mut outcome = Outcome {
            step_uuid: step.step_uuid,
            attempt: step.attempt,
            status: OutcomeStatus::Complete,
            result: None,
            error: None,
            checkpoint: None,
            events: serde_json::Map::new(),
        };
        match self.chance.below(8) {
            0 => outcome.status = OutcomeStatus::Release,
            1 => {
                outcome.status = OutcomeStatus::Yield;
                outcome.checkpoint = Some(json!({"at": step.attempt}));
            }
            2 => {
                outcome.status = OutcomeStatus::Fail;
                outcome.error = Some(StepError {
                    message: "as chance has it".to_owned(),
                    r#type: None,
                    retryable: Some(self.chance.below(5) != 0),
                    retry_after_ms: None,
                    detail: None,
                });
            }
            _ => outcome.result = Some(self.result(step)),
        }
        outcome
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_random_mix_of_eight_sessions_has_no_deadlock_and_keeps_every_invariant()
-> anyhow::Result<()> {
    let seed = seed();
    let database = TestDatabase::new().await?;
    run(&database, seed)
        .await
        .with_context(|| format!("TASKER_MODEL_SEED={seed}; {}", database.said_of_deadlocks()))
}

async fn run(database: &TestDatabase, seed: u64) -> anyhow::Result<()> {
    let client = database.client();
    for template in templates() {
        client
            .register_template(Definition::Yaml(&template), None)
            .await?;
    }
    for name in NAMES {
        for _ in 0..5 {
            create(client, "default", name, &json!({})).await?;
        }
    }
    let begun = Instant::now();
    let turns = operations(TURNS);
    let mut sessions = Vec::new();
    for number in 1..=SESSIONS {
        // One connection each: the clock is moved for a connection.
        let options = ConnectOptions {
            max_connections: 1,
            ..ConnectOptions::default()
        };
        let mut session = Session {
            client: Client::connect(database.url(), options).await?,
            worker_id: format!("session-{number}"),
            chance: Chance::new(seed.wrapping_add(number)),
            held: Vec::new(),
            begun,
        };
        sessions.push(tokio::spawn(async move {
            for turn in 0..turns {
                let context = || format!("session {number}, turn {turn}");
                session.turn().await.with_context(context)?;
            }
            anyhow::Ok(())
        }));
    }
    for session in sessions {
        session.await??;
    }
    let states: Vec<String> = sqlx::query_scalar("select distinct state from tasker.tasks")
        .fetch_all(database.pool())
        .await?;
    for state in [
        "complete",
        "cancelled",
        "error",
        "blocked_by_failures",
        "steps_in_process",
    ] {
        assert!(
            states.iter().any(|seen| seen == state),
            "chance made no task {state}: {states:?}"
        );
    }
    let taken_over: i64 =
        sqlx::query_scalar("select count(*) from tasker.step_transitions where path = 'rS'")
            .fetch_one(database.pool())
            .await?;
    assert!(taken_over > 0, "chance let no lease end");
    verified(client).await
}
