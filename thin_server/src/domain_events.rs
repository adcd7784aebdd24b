//! `/v1/domain-events`: what steps published, who subscribes to it, and its deliveries to subscribers that don't reach the database.

mod deliveries;
mod subscriptions;

use axum::Json;
use axum::extract::{OriginalUri, State};
use serde::{Deserialize, Serialize};
use tasker_client::{DomainEventFilter, PublishedDomainEvent};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use crate::extract::{PathParameters, QueryParameters};
use crate::openapi::Refusals;
use crate::page::{self, Page};
use crate::problem::Problem;
use crate::routes::AppState;

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct ListQuery {
    /// Only those of tasks of this namespace.
    #[param(example = "shop")]
    namespace: Option<String>,
    /// Only those of this name, which may be a pattern: `order.*`.
    #[param(max_length = 128, example = "order.*")]
    name: Option<String>,
    /// Only those of this task.
    task_uuid: Option<Uuid>,
    /// The page after this event.
    after: Option<Uuid>,
    /// At most so many; 50 when left out.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<i32>,
}

/// What came of sending an event again.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Redelivered {
    /// The event.
    event_uuid: Uuid,
    /// To how many subscriptions it was sent: those that hadn't taken it and are there still.
    redelivered: i64,
}

pub(crate) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(redeliver))
        .merge(subscriptions::routes())
        .merge(deliveries::routes())
}

/// Lists the domain events that steps published, newest first, with what was not published or not taken.
#[utoipa::path(
    get,
    path = "/v1/domain-events",
    operation_id = "list_domain_events",
    tag = "domain_events",
    params(ListQuery),
    responses(
        (status = 200, description = "A page of them", body = Page<PublishedDomainEvent>),
        Refusals
    ),
    extensions(("x-permission" = json!("domain_events:read")))
)]
pub(crate) async fn list(
    State(state): State<AppState>,
    OriginalUri(uri): OriginalUri,
    QueryParameters(query): QueryParameters<ListQuery>,
) -> Result<Json<Page<PublishedDomainEvent>>, Problem> {
    let limit = page::limit(query.limit)?;
    let filter = DomainEventFilter {
        namespace: query.namespace,
        name: query.name,
        task_uuid: query.task_uuid,
        after: query.after,
        limit: u32::try_from(limit).ok(),
    };
    let items = state.client.list_domain_events(&filter).await?;
    Ok(Json(Page::part(items, limit, &uri, |item| item.event_uuid)))
}

/// Sends an event again to the subscriptions that did not take it in ten deliveries, for ten more.
#[utoipa::path(
    post,
    path = "/v1/domain-events/{event_uuid}/redeliver",
    operation_id = "redeliver_domain_event",
    tag = "domain_events",
    params(("event_uuid" = Uuid, Path, description = "The event")),
    responses(
        (status = 200, description = "It is sent to those that hadn't taken it, which may be none", body = Redelivered),
        Refusals
    ),
    extensions(("x-permission" = json!("domain_events:manage")))
)]
pub(crate) async fn redeliver(
    State(state): State<AppState>,
    PathParameters(event_uuid): PathParameters<Uuid>,
) -> Result<Json<Redelivered>, Problem> {
    let redelivered = state.client.redeliver_domain_event(event_uuid).await?;
    Ok(Json(Redelivered {
        event_uuid,
        redelivered,
    }))
}
