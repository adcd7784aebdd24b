//! `/v1/domain-events/subscriptions`.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use tasker_client::Subscription;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::extract::{JsonBody, PathParameters, QueryParameters};
use crate::openapi::Refusals;
use crate::page::Page;
use crate::problem::Problem;
use crate::routes::AppState;

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct SubscriptionQuery {
    /// Only those of this namespace.
    #[param(example = "shop")]
    namespace: Option<String>,
}

/// Who subscribes to what.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Subscribe {
    /// The name that all have in common who share the events.
    #[schema(pattern = "^[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}$", example = "mailer")]
    subscriber: String,
    /// The namespaces, which may be yet to be made.
    #[schema(example = json!(["shop"]))]
    namespaces: Vec<String>,
    /// Which events: names in which `*` stands for any characters.
    #[schema(example = json!(["order.*"]))]
    patterns: Vec<String>,
}

/// What came of subscribing.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Subscribed {
    /// How many of the subscriptions are new.
    created: i64,
}

/// A subscription that isn't there any more.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EndedSubscription {
    /// Its namespace.
    namespace: String,
    /// Its subscriber.
    #[schema(example = "mailer")]
    subscriber: String,
    /// Its pattern.
    #[schema(example = "order.*")]
    pattern: String,
    /// Whether this request ended it; false when there was none.
    unsubscribed: bool,
}

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list, subscribe))
        .routes(routes!(unsubscribe))
}

/// Lists the subscriptions to durable events, with what waits for each.
#[utoipa::path(
    get,
    path = "/v1/domain-events/subscriptions",
    operation_id = "list_subscriptions",
    tag = "domain_events",
    params(SubscriptionQuery),
    responses(
        (status = 200, description = "The subscriptions, by namespace, subscriber and pattern", body = Page<Subscription>),
        Refusals
    ),
    extensions(("x-permission" = json!("domain_events:read")))
)]
pub(crate) async fn list(
    State(state): State<AppState>,
    QueryParameters(query): QueryParameters<SubscriptionQuery>,
) -> Result<Json<Page<Subscription>>, Problem> {
    let namespace = query.namespace.as_deref();
    Ok(Json(Page::whole(
        state.client.list_subscriptions(namespace).await?,
    )))
}

/// Subscribes to the durable events of namespaces by patterns: each subscription is sent what is published from then on. Safe to repeat.
#[utoipa::path(
    post,
    path = "/v1/domain-events/subscriptions",
    operation_id = "subscribe_domain_events",
    tag = "domain_events",
    request_body(content = Subscribe),
    responses(
        (status = 201, description = "Some of the subscriptions are new", body = Subscribed),
        (status = 200, description = "All were there before", body = Subscribed),
        Refusals
    ),
    extensions(("x-permission" = json!("domain_events:subscribe")))
)]
pub(crate) async fn subscribe(
    State(state): State<AppState>,
    JsonBody(body): JsonBody<Subscribe>,
) -> Result<(StatusCode, Json<Subscribed>), Problem> {
    let created = state
        .client
        .subscribe_domain_events(&body.subscriber, &body.namespaces, &body.patterns)
        .await?;
    let status = if created > 0 {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    Ok((status, Json(Subscribed { created })))
}

/// Ends a subscription, with what waits for it. A worker that has it makes it anew when it starts.
#[utoipa::path(
    delete,
    path = "/v1/domain-events/subscriptions/{namespace}/{subscriber}/{pattern}",
    operation_id = "unsubscribe_domain_events",
    tag = "domain_events",
    params(
        ("namespace" = String, Path, description = "Its namespace", example = "shop"),
        ("subscriber" = String, Path, description = "Its subscriber", example = "mailer"),
        ("pattern" = String, Path, description = "Its pattern", example = "order.*"),
    ),
    responses(
        (status = 200, description = "It isn't there, now or before", body = EndedSubscription),
        Refusals
    ),
    extensions(("x-permission" = json!("domain_events:manage")))
)]
pub(crate) async fn unsubscribe(
    State(state): State<AppState>,
    PathParameters((namespace, subscriber, pattern)): PathParameters<(String, String, String)>,
) -> Result<Json<EndedSubscription>, Problem> {
    let unsubscribed = state
        .client
        .unsubscribe_domain_events(&subscriber, &namespace, &pattern)
        .await?;
    Ok(Json(EndedSubscription {
        namespace,
        subscriber,
        pattern,
        unsubscribed,
    }))
}
