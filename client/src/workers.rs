//! What a worker calls: claim, finish, extend leases, register; and the list of workers.

mod line;
mod list;
mod types;

use std::time::Duration;

use serde_json::Value;
use sqlx::types::Json;
use sqlx::{PgExecutor, Row};
use uuid::Uuid;

use crate::connection::{Client, interval};
use crate::error::Error;
use crate::storable;

pub use line::WorkLine;
pub use list::Worker;
pub use types::{
    ClaimRequest, ClaimedStep, FinishRequest, Finished, HeldStep, LeaseState, LeaseVerdict,
    Outcome, OutcomeStatus, StepError, Verdict, VerdictKind, WorkerRegistration,
};

/// The columns are named, so that one added by a newer extension changes nothing here.
const CLAIM_STEPS: &str = "select step_uuid, task_uuid, attempt, attempts_used, max_attempts, namespace, template_name, \
    template_version, step_name, step_type, handler, context, inputs, dependency_results, checkpoint, correlation_id, \
    priority, timeout_seconds, lease_expires_at, created_at, enqueued_at \
    from tasker.claim_steps(worker_id => $1, namespaces => $2, max_steps => $3, lease => $4, handlers => $5)";

const FINISH_STEPS: &str = "select verdicts, array_to_json(claimed) as claimed \
    from tasker.finish_steps(worker_id => $1, outcomes => $2, claim_next => $3, lease => $4, namespaces => $5, \
    handlers => $6, request_id => $7)";

const EXTEND_LEASES: &str = "select step_uuid, verdict from tasker.extend_leases(worker_id => $1, steps => $2, lease => $3)";

const REGISTER_WORKER: &str = "select tasker.register_worker(worker_id => $1, namespaces => $2, handlers => $3, \
    language => $4, version => $5)";

impl Client {
    /// Claims up to `max_steps` ready steps under a lease. Never waits: an empty answer means that nothing is ready.
    pub async fn claim_steps(&self, request: &ClaimRequest) -> Result<Vec<ClaimedStep>, Error> {
        claim_steps(self.pool(), request).await
    }

    /// Stores a batch of outcomes and, in the same transaction, claims up to `claim_next` steps.
    ///
    /// An outcome that PostgreSQL can't store (a NUL in a text, a number beyond `numeric`) would fail the whole statement,
    /// so it is answered here with [`VerdictKind::Invalid`], and the others are sent without it.
    pub async fn finish_steps(&self, request: &FinishRequest) -> Result<Finished, Error> {
        finish_steps(self.pool(), request).await
    }

    /// Stores the result of one attempt. [`Client::finish_steps`] is the same for a batch.
    pub async fn complete_step(
        &self,
        step_uuid: Uuid,
        attempt: i32,
        result: &Value,
    ) -> Result<(), Error> {
        sqlx::query("select tasker.complete_step(step_uuid => $1, attempt => $2, result => $3)")
            .bind(step_uuid)
            .bind(attempt)
            .bind(Json(result))
            .execute(self.pool())
            .await?;
        Ok(())
    }

    /// Stores the failure of one attempt; `retry_after` replaces the computed delay before the next one.
    pub async fn fail_step(
        &self,
        step_uuid: Uuid,
        attempt: i32,
        error: &Value,
        retryable: bool,
        retry_after: Option<Duration>,
    ) -> Result<(), Error> {
        sqlx::query(
            "select tasker.fail_step(step_uuid => $1, attempt => $2, error => $3, retryable => $4, retry_after => $5)",
        )
        .bind(step_uuid)
        .bind(attempt)
        .bind(Json(error))
        .bind(retryable)
        .bind(retry_after.map(interval))
        .execute(self.pool())
        .await?;
        Ok(())
    }

    /// Extends the leases of held steps to `lease` from now and says which of them are held no longer.
    pub async fn extend_leases(
        &self,
        worker_id: &str,
        steps: &[HeldStep],
        lease: Duration,
    ) -> Result<Vec<LeaseVerdict>, Error> {
        let verdicts = sqlx::query_as(EXTEND_LEASES)
            .bind(worker_id)
            .bind(Json(steps))
            .bind(interval(lease))
            .fetch_all(self.pool())
            .await?;
        Ok(verdicts)
    }

    /// Makes a worker known, or changes what is known of it.
    pub async fn register_worker(&self, worker: &WorkerRegistration) -> Result<(), Error> {
        sqlx::query(REGISTER_WORKER)
            .bind(&worker.worker_id)
            .bind(&worker.namespaces)
            .bind(&worker.handlers)
            .bind(&worker.language)
            .bind(&worker.version)
            .execute(self.pool())
            .await?;
        Ok(())
    }

    /// Says that a worker is alive, how many steps it runs and how many it could run.
    /// Fails with TK004 when it isn't registered.
    pub async fn worker_heartbeat(
        &self,
        worker_id: &str,
        running: u32,
        capacity: u32,
    ) -> Result<(), Error> {
        sqlx::query(
            "select tasker.worker_heartbeat(worker_id => $1, running => $2, capacity => $3)",
        )
        .bind(worker_id)
        .bind(count(running))
        .bind(count(capacity))
        .execute(self.pool())
        .await?;
        Ok(())
    }

    /// How long until something may be claimable: zero for now, `None` when nothing waits. One cheap query, for a worker
    /// that polls while it has nothing to do.
    pub async fn work_due_in(
        &self,
        namespaces: &[String],
        handlers: Option<&[String]>,
    ) -> Result<Option<Duration>, Error> {
        let due_in_ms: Option<i64> =
            sqlx::query_scalar("select tasker.work_due_in_ms(namespaces => $1, handlers => $2)")
                .bind(namespaces)
                .bind(handlers)
                .fetch_one(self.pool())
                .await?;
        Ok(due_in_ms.map(|ms| Duration::from_millis(u64::try_from(ms).unwrap_or(0))))
    }
}

async fn claim_steps(
    executor: impl PgExecutor<'_>,
    request: &ClaimRequest,
) -> Result<Vec<ClaimedStep>, Error> {
    let steps = sqlx::query_as(CLAIM_STEPS)
        .bind(&request.worker_id)
        .bind(&request.namespaces)
        .bind(count(request.max_steps))
        .bind(interval(request.lease))
        .bind(request.handlers.as_deref())
        .fetch_all(executor)
        .await?;
    Ok(steps)
}

async fn finish_steps(
    executor: impl PgExecutor<'_>,
    request: &FinishRequest,
) -> Result<Finished, Error> {
    let (sent, refused) = storable::split(&request.outcomes);
    let row = sqlx::query(FINISH_STEPS)
        .bind(&request.worker_id)
        .bind(Json(&sent))
        .bind(count(request.claim_next))
        .bind(interval(request.lease))
        .bind(request.namespaces.as_deref())
        .bind(request.handlers.as_deref())
        .bind(request.request_id)
        .fetch_one(executor)
        .await?;
    let Json(verdicts): Json<Vec<Verdict>> = row.try_get("verdicts")?;
    let claimed: Option<Json<Vec<ClaimedStep>>> = row.try_get("claimed")?;
    Ok(Finished {
        verdicts: storable::merge(verdicts, refused),
        claimed: claimed.map(|Json(steps)| steps).unwrap_or_default(),
    })
}

/// A count as PostgreSQL's `int`; more than it holds is as good as the most.
fn count(value: u32) -> i32 {
    i32::try_from(value).unwrap_or(i32::MAX)
}
