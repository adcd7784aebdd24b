//! Bulk jobs, of `TaskService`.

use tasker_client::{BulkAction, BulkFilter};
use tasker_grpc::v1;

use super::wire::{self, ToWire, message};
use crate::page;
use crate::problem::Problem;
use crate::routes::AppState;

message!(tasker_client::BulkMatches => ApplyToTasksResponse { job_uuid, matched, more, sample });
message!(tasker_client::BulkJob => BulkJob {
    job_uuid, action, reason, created_at, created_by, seen, changed, refused, finished_at;
    json filter => filter_json, last_refusal => last_refusal_json
});

pub(super) async fn apply_to_tasks(
    state: &AppState,
    request: v1::ApplyToTasksRequest,
) -> Result<v1::ApplyToTasksResponse, Problem> {
    // A filter that was forgotten isn't one that finds everything.
    let given = request.filter.ok_or_else(|| wire::missing("filter"))?;
    let filter = BulkFilter {
        namespace: given.namespace,
        template_name: given.template_name,
        states: wire::any(given.states),
        tags: wire::any(given.tags),
        context_contains: wire::optional_json(
            "context_contains_json",
            given.context_contains_json,
        )?,
        created_after: wire::time("created_after", given.created_after)?,
        created_before: wire::time("created_before", given.created_before)?,
    };
    let action: BulkAction = wire::word("action", &request.action)?;
    let dry_run = request.dry_run.unwrap_or(true);
    let matches = state
        .client
        .apply_to_tasks(&filter, action, dry_run, request.reason.as_deref())
        .await?;
    Ok(matches.to_wire())
}

pub(super) async fn list_bulk_jobs(
    state: &AppState,
    request: v1::ListBulkJobsRequest,
) -> Result<v1::ListBulkJobsResponse, Problem> {
    let limit = page::limit(request.limit)?;
    let after = wire::optional_uuid("after", request.after.as_deref())?;
    let jobs = state.client.list_bulk_jobs(after, Some(limit)).await?;
    let (items, next_after) = wire::page(jobs, limit, |job| job.job_uuid);
    Ok(v1::ListBulkJobsResponse { items, next_after })
}

pub(super) async fn cancel_bulk_job(
    state: &AppState,
    request: v1::CancelBulkJobRequest,
) -> Result<v1::CancelBulkJobResponse, Problem> {
    let job_uuid = wire::uuid("job_uuid", &request.job_uuid)?;
    let cancelled = state.client.cancel_bulk_job(job_uuid).await?;
    Ok(v1::CancelBulkJobResponse {
        job_uuid: job_uuid.to_wire(),
        cancelled,
    })
}
