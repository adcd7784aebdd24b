//! `/v1/domain-events/claim` and `/finish`: durable events for subscribers that don't reach the database, as a worker takes them.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use tasker_client::{ClaimedEvent, Delivery, DeliveryVerdict, EventClaim};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::extract::JsonBody;
use crate::object;
use crate::openapi::Refusals;
use crate::page::Page;
use crate::problem::Problem;
use crate::routes::AppState;

/// Which events are asked for.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ClaimEvents {
    /// Who takes them.
    #[schema(min_length = 1, max_length = 200, example = "mailer-1")]
    worker_id: String,
    /// Whose subscriptions.
    #[schema(pattern = "^[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}$", example = "mailer")]
    subscriber: String,
    /// From which namespaces.
    #[schema(example = json!(["shop"]))]
    namespaces: Vec<String>,
    /// The patterns of the subscriptions.
    #[schema(example = json!(["order.*"]))]
    patterns: Vec<String>,
    /// At most so many.
    #[serde(default = "ten")]
    #[schema(default = 10, minimum = 0, maximum = 2_147_483_647)]
    max_events: u32,
    /// After so many seconds they are handed out again, unless they are finished.
    #[serde(default = "half_a_minute")]
    #[schema(default = 30, minimum = 1, maximum = 86_400)]
    lease_seconds: u32,
}

fn ten() -> u32 {
    10
}

fn half_a_minute() -> u32 {
    30
}

/// What became of events.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct FinishEvents {
    /// Who took them.
    #[schema(min_length = 1, max_length = 200, example = "mailer-1")]
    worker_id: String,
    /// Each with how it ended.
    #[serde(deserialize_with = "object::objects")]
    deliveries: Vec<Delivery>,
}

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(claim))
        .routes(routes!(finish))
}

/// Hands out durable events of subscriptions, the oldest first; each comes again when its lease ends before it is finished. Never waits: without any the list is empty.
#[utoipa::path(
    post,
    path = "/v1/domain-events/claim",
    operation_id = "claim_domain_events",
    tag = "domain_events",
    request_body(content = ClaimEvents),
    responses(
        (status = 200, description = "The events", body = Page<ClaimedEvent>),
        Refusals
    ),
    extensions(("x-permission" = json!("domain_events:subscribe")))
)]
pub(crate) async fn claim(
    State(state): State<AppState>,
    JsonBody(body): JsonBody<ClaimEvents>,
) -> Result<Json<Page<ClaimedEvent>>, Problem> {
    let claim = EventClaim {
        worker_id: body.worker_id,
        subscriber: body.subscriber,
        namespaces: body.namespaces,
        patterns: body.patterns,
        max_events: body.max_events,
        lease: Duration::from_secs(body.lease_seconds.into()),
    };
    Ok(Json(Page::whole(
        state.client.claim_domain_events(&claim).await?,
    )))
}

/// Says what became of deliveries: those done are over, those failed come again after a pause and are set aside after ten, those released come again at once.
/// The verdict is `accepted`, or `lost` for one that was handed out again meanwhile.
#[utoipa::path(
    post,
    path = "/v1/domain-events/finish",
    operation_id = "finish_domain_events",
    tag = "domain_events",
    request_body(content = FinishEvents),
    responses(
        (status = 200, description = "The verdicts", body = Page<DeliveryVerdict>),
        Refusals
    ),
    extensions(("x-permission" = json!("domain_events:subscribe")))
)]
pub(crate) async fn finish(
    State(state): State<AppState>,
    JsonBody(body): JsonBody<FinishEvents>,
) -> Result<Json<Page<DeliveryVerdict>>, Problem> {
    let verdicts = state
        .client
        .finish_domain_events(&body.worker_id, &body.deliveries)
        .await?;
    Ok(Json(Page::whole(verdicts)))
}
