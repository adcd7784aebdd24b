//! One of the sessions of the mix, and what it does in a turn.

use std::time::{Duration, Instant};

use anyhow::ensure;
use serde_json::{Value, json};
use sqlx::Executor;
use tasker_client::{
    BulkAction, BulkFilter, ClaimRequest, ClaimedStep, Client, ConnectOptions, FinishRequest,
    HeldStep, Outcome, OutcomeStatus, StepError,
};
use tasker_tests::TestDatabase;
use tasker_tests::following::create;
use tasker_tests::model::Chance;
use uuid::Uuid;

use crate::templates::NAMES;

/// So that leases end and retries come due within the test.
const CLOCK_RUNS_FASTER: f64 = 40.0;

/// Of what is refused, because it doesn't fit what it finds: no such step, the state it is in, cancelled, no result of a step, what a decision has not chosen.
const REFUSALS: [&str; 5] = ["TK002", "TK004", "TK010", "TK012", "TK021"];

/// One of the sessions, with what it has claimed: what it holds, as far as it knows, and all that it ever held.
pub(crate) struct Session {
    client: Client,
    worker_id: String,
    chance: Chance,
    held: Vec<ClaimedStep>,
    past: Vec<ClaimedStep>,
    begun: Instant,
}

impl Session {
    pub(crate) async fn new(
        database: &TestDatabase,
        seed: u64,
        number: u64,
        begun: Instant,
    ) -> anyhow::Result<Self> {
        // One connection each: the clock is moved for a connection.
        let options = ConnectOptions {
            max_connections: 1,
            ..ConnectOptions::default()
        };
        Ok(Self {
            client: Client::connect(database.url(), options).await?,
            worker_id: format!("session-{number}"),
            chance: Chance::new(seed.wrapping_add(number)),
            held: Vec::new(),
            past: Vec::new(),
            begun,
        })
    }

    fn namespaces() -> Vec<String> {
        vec!["default".to_owned()]
    }

    /// Does something.
    pub(crate) async fn turn(&mut self) -> anyhow::Result<()> {
        let passed = self.begun.elapsed().as_secs_f64() * CLOCK_RUNS_FASTER;
        sqlx::query("select tasker._set_now(clock_timestamp() + make_interval(secs => $1))")
            .bind(passed)
            .execute(self.client.pool())
            .await?;
        match self.chance.below(18) {
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
            9 => self.pause().await?,
            10 => self.signal().await?,
            11 => self.in_bulk().await?,
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
        let claimed = self.client.claim_steps(&request).await?;
        self.take(claimed);
        Ok(())
    }

    fn take(&mut self, claimed: Vec<ClaimedStep>) {
        self.past.extend(claimed.iter().cloned());
        self.held.extend(claimed);
    }

    /// Now and then steps that it has told of before, or lost.
    fn told_again(&mut self) -> Vec<ClaimedStep> {
        if self.past.is_empty() || !self.chance.once_in(3) {
            return Vec::new();
        }
        (0..4)
            .map(|_| self.past[self.chance.below(self.past.len())].clone())
            .collect()
    }

    /// A task, for a third of all turns that want one.
    async fn a_task(&mut self, condition: &str) -> anyhow::Result<Option<Uuid>> {
        if !self.chance.once_in(3) {
            return Ok(None);
        }
        let query = format!(
            "select task_uuid from tasker.tasks where {condition} order by random() limit 1"
        );
        Ok(sqlx::query_scalar(&query)
            .fetch_optional(self.client.pool())
            .await?)
    }

    async fn cancel(&mut self) -> anyhow::Result<()> {
        let Some(task) = self.a_task("state = 'steps_in_process'").await? else {
            return Ok(());
        };
        let call = match self.chance.below(2) {
            0 => "select tasker.cancel_task($1)",
            _ => "select tasker.cancel_task($1, compensate => true)",
        };
        self.operate(call, task).await
    }

    async fn pause(&mut self) -> anyhow::Result<()> {
        match self.chance.below(8) {
            0 => {
                self.client.pause_namespace("default", None).await?;
                self.client.resume_namespace("default").await?;
                Ok(())
            }
            1 | 2 => match self.a_task("finished_at is null").await? {
                Some(task) => self.operate("select tasker.pause_task($1)", task).await,
                None => Ok(()),
            },
            _ => match self.a_task("paused_at is not null").await? {
                Some(task) => self.operate("select tasker.resume_task($1)", task).await,
                None => Ok(()),
            },
        }
    }

    async fn signal(&mut self) -> anyhow::Result<()> {
        match self.a_task("finished_at is null").await? {
            Some(task) => {
                self.operate("select tasker.send_signal($1, 'go', '1')", task)
                    .await
            }
            None => Ok(()),
        }
    }

    /// A job over the tasks of a template, which maintenance does.
    async fn in_bulk(&mut self) -> anyhow::Result<()> {
        if !self.chance.once_in(6) {
            return Ok(());
        }
        let actions = [
            BulkAction::Cancel,
            BulkAction::Pause,
            BulkAction::Resume,
            BulkAction::Rerun,
            BulkAction::ResetFailed,
            BulkAction::ResolveFailed,
        ];
        let filter = BulkFilter {
            template_name: Some(NAMES[self.chance.below(NAMES.len())].to_owned()),
            ..BulkFilter::default()
        };
        let action = actions[self.chance.below(actions.len())];
        self.client
            .apply_to_tasks(&filter, action, false, None)
            .await?;
        Ok(())
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
        let Some(task) = self.a_task("finished_at is not null").await? else {
            return Ok(());
        };
        let call = match self.chance.below(3) {
            0 => "select tasker.rerun_task($1)",
            1 => "select tasker.rerun_task($1, (select name from tasker.list_steps($1) limit 1))",
            _ => {
                "select tasker.rerun_task($1, (select name from tasker.list_steps($1) limit 1), false)"
            }
        };
        self.operate(call, task).await
    }

    /// Does what may be refused.
    async fn operate(&self, call: &str, key: Uuid) -> anyhow::Result<()> {
        let done = sqlx::query(call)
            .bind(key)
            .execute(self.client.pool())
            .await;
        match done {
            Err(sqlx::Error::Database(error))
                if error.code().is_some_and(|code| REFUSALS.contains(&&*code)) =>
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
        let again = self.told_again();
        let held: Vec<_> = self
            .held
            .iter()
            .chain(&again)
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
        let mut outcomes: Vec<_> = self.held.drain(..count).collect();
        outcomes.extend(self.told_again());
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
        self.take(finished.claimed);
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
