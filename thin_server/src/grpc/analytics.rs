//! `AnalyticsService`.

use tasker_client::StatisticsFilter;
use tasker_grpc::v1::{self, analytics_service_server::AnalyticsService};
use tonic::{Request, Response, Status};

use super::wire::{self, ToWire, message};
use super::{Door, service};
use crate::problem::Problem;
use crate::routes::AppState;

message!(tasker_client::StepStatistics => StepStatistics {
    namespace, template_name, template_version, step_name, completed, failed, cancelled, resolved, failure_share, attempts, retries, avg_wait_ms, avg_run_ms,
    p50_run_ms, p95_run_ms, p99_run_ms, max_run_ms, since, as_of
});
message!(tasker_client::SlowStep => SlowStep {
    step_uuid, task_uuid, namespace, template_name, template_version, name, duration_ms, attempts_used, state, started_at, finished_at
});
message!(tasker_client::SlowTask => SlowTask {
    task_uuid, namespace, template_name, template_version, duration_ms, state, started_at, finished_at
});

service!(AnalyticsService {
    get_statistics(GetStatisticsRequest) -> GetStatisticsResponse,
    get_slowest_steps_and_tasks(GetSlowestStepsAndTasksRequest) -> GetSlowestStepsAndTasksResponse,
});

async fn get_statistics(
    state: &AppState,
    request: v1::GetStatisticsRequest,
) -> Result<v1::GetStatisticsResponse, Problem> {
    let filter = StatisticsFilter {
        since: wire::time("since", request.since)?,
        namespace: request.namespace,
        template_name: request.template_name,
    };
    let items = state.client.statistics(&filter).await?.to_wire();
    Ok(v1::GetStatisticsResponse { items })
}

async fn get_slowest_steps_and_tasks(
    state: &AppState,
    request: v1::GetSlowestStepsAndTasksRequest,
) -> Result<v1::GetSlowestStepsAndTasksResponse, Problem> {
    let filter = StatisticsFilter {
        since: wire::time("since", request.since)?,
        namespace: request.namespace,
        template_name: request.template_name,
    };
    let (client, limit) = (&state.client, request.limit);
    Ok(v1::GetSlowestStepsAndTasksResponse {
        slowest_steps: client.slowest_steps(&filter, limit).await?.to_wire(),
        slowest_tasks: client.slowest_tasks(&filter, limit).await?.to_wire(),
    })
}
