//! `/v1/analytics`: figures of templates and steps, and the slowest of them.

use axum::Json;
use axum::extract::State;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use tasker_client::{SlowStep, SlowTask, StatisticsFilter, StepStatistics};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::extract::QueryParameters;
use crate::openapi::Refusals;
use crate::page::Page;
use crate::problem::Problem;
use crate::routes::AppState;

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct PerformanceQuery {
    /// From this time on, rounded down to its hour, after two days to its day, after 62 to its month; a day ago when left out.
    #[param(example = "2026-01-31T00:00:00Z")]
    since: Option<DateTime<Utc>>,
    /// Only those of this namespace.
    #[param(example = "shop")]
    namespace: Option<String>,
    /// Only those of this template.
    #[param(example = "order_fulfillment")]
    template_name: Option<String>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct BottlenecksQuery {
    /// Of those that ended since this time, rounded down as for `performance`; a day ago when left out.
    #[param(example = "2026-01-31T00:00:00Z")]
    since: Option<DateTime<Utc>>,
    /// Only those of this namespace.
    #[param(example = "shop")]
    namespace: Option<String>,
    /// Only those of this template.
    #[param(example = "order_fulfillment")]
    template_name: Option<String>,
    /// At most so many steps and so many tasks; 10 when left out.
    #[param(minimum = 1, maximum = 20)]
    limit: Option<i32>,
}

/// What took longest.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Bottlenecks {
    /// The steps whose last attempt ran longest, slowest first.
    slowest_steps: Vec<SlowStep>,
    /// The tasks that took longest from their start to their end, slowest first.
    slowest_tasks: Vec<SlowTask>,
}

pub(crate) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(performance))
        .routes(routes!(bottlenecks))
}

/// The figures of each template's tasks (without `step_name`) and steps.
#[utoipa::path(
    get,
    path = "/v1/analytics/performance",
    operation_id = "statistics",
    tag = "analytics",
    params(PerformanceQuery),
    responses(
        (status = 200, description = "The figures, by namespace, template, version and step", body = Page<StepStatistics>),
        Refusals
    ),
    extensions(("x-permission" = json!("system:analytics_read")))
)]
pub(crate) async fn performance(
    State(state): State<AppState>,
    QueryParameters(query): QueryParameters<PerformanceQuery>,
) -> Result<Json<Page<StepStatistics>>, Problem> {
    let filter = StatisticsFilter {
        since: query.since,
        namespace: query.namespace,
        template_name: query.template_name,
    };
    Ok(Json(Page::whole(state.client.statistics(&filter).await?)))
}

/// The slowest steps and the slowest tasks.
#[utoipa::path(
    get,
    path = "/v1/analytics/bottlenecks",
    operation_id = "slowest_steps_and_tasks",
    tag = "analytics",
    params(BottlenecksQuery),
    responses(
        (status = 200, description = "The slowest", body = Bottlenecks),
        Refusals
    ),
    extensions(("x-permission" = json!("system:analytics_read")))
)]
pub(crate) async fn bottlenecks(
    State(state): State<AppState>,
    QueryParameters(query): QueryParameters<BottlenecksQuery>,
) -> Result<Json<Bottlenecks>, Problem> {
    let filter = StatisticsFilter {
        since: query.since,
        namespace: query.namespace,
        template_name: query.template_name,
    };
    Ok(Json(Bottlenecks {
        slowest_steps: state.client.slowest_steps(&filter, query.limit).await?,
        slowest_tasks: state.client.slowest_tasks(&filter, query.limit).await?,
    }))
}
