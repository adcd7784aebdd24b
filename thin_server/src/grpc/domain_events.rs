//! `DomainEventService`.

use tasker_client::{Delivery, DeliveryStatus, DomainEventFilter, EventClaim};
use tasker_grpc::v1::{self, domain_event_service_server::DomainEventService};
use tonic::{Request, Response, Status};

use super::wire::{self, ToWire, message};
use super::{Door, service};
use crate::page;
use crate::problem::Problem;
use crate::routes::AppState;

/// Events that are handed out at once when the caller doesn't say.
const DEFAULT_EVENTS: i32 = 10;

message!(tasker_client::PublishedDomainEvent => PublishedDomainEvent {
    event_uuid, name, namespace, template_name, template_version, task_uuid, step_uuid, step_name, attempt, outcome, delivery_mode, correlation_id, published_at,
    subscriptions, problem;
    json payload => payload_json, set_aside => set_aside_json
});
message!(tasker_client::Subscription => Subscription {
    namespace, subscriber, pattern, waiting, delivered_again, oldest_seconds, created_by, created_at
});
message!(tasker_client::DomainEvent => DomainEvent {
    event_uuid, name, namespace, template_name, template_version, task_uuid, step_uuid, step_name, attempt, outcome, correlation_id, at, payload_omitted;
    json payload => payload_json
});
message!(tasker_client::ClaimedEvent => ClaimedEvent { namespace, msg_id, delivery, pattern, event });
message!(tasker_client::DeliveryVerdict => DeliveryVerdict { namespace, msg_id, verdict });

impl ToWire<Option<v1::DomainEvent>> for tasker_client::DomainEvent {
    fn to_wire(self) -> Option<v1::DomainEvent> {
        Some(self.to_wire())
    }
}

service!(DomainEventService {
    list_domain_events(ListDomainEventsRequest) -> ListDomainEventsResponse,
    redeliver_domain_event(RedeliverDomainEventRequest) -> RedeliverDomainEventResponse,
    list_subscriptions(ListSubscriptionsRequest) -> ListSubscriptionsResponse,
    subscribe_domain_events(SubscribeDomainEventsRequest) -> SubscribeDomainEventsResponse,
    unsubscribe_domain_events(UnsubscribeDomainEventsRequest) -> UnsubscribeDomainEventsResponse,
    claim_domain_events(ClaimDomainEventsRequest) -> ClaimDomainEventsResponse,
    finish_domain_events(FinishDomainEventsRequest) -> FinishDomainEventsResponse,
});

async fn list_domain_events(
    state: &AppState,
    request: v1::ListDomainEventsRequest,
) -> Result<v1::ListDomainEventsResponse, Problem> {
    let limit = page::limit(request.limit)?;
    let filter = DomainEventFilter {
        namespace: request.namespace,
        name: request.name,
        task_uuid: wire::optional_uuid("task_uuid", request.task_uuid.as_deref())?,
        after: wire::optional_uuid("after", request.after.as_deref())?,
        limit: Some(wire::count("limit", limit)?),
    };
    let events = state.client.list_domain_events(&filter).await?;
    let (items, next_after) = wire::page(events, limit, |event| event.event_uuid);
    Ok(v1::ListDomainEventsResponse { items, next_after })
}

async fn redeliver_domain_event(
    state: &AppState,
    request: v1::RedeliverDomainEventRequest,
) -> Result<v1::RedeliverDomainEventResponse, Problem> {
    let event_uuid = wire::uuid("event_uuid", &request.event_uuid)?;
    let redelivered = state.client.redeliver_domain_event(event_uuid).await?;
    Ok(v1::RedeliverDomainEventResponse {
        event_uuid: event_uuid.to_wire(),
        redelivered,
    })
}

async fn list_subscriptions(
    state: &AppState,
    request: v1::ListSubscriptionsRequest,
) -> Result<v1::ListSubscriptionsResponse, Problem> {
    let namespace = request.namespace.as_deref();
    let items = state.client.list_subscriptions(namespace).await?.to_wire();
    Ok(v1::ListSubscriptionsResponse { items })
}

async fn subscribe_domain_events(
    state: &AppState,
    request: v1::SubscribeDomainEventsRequest,
) -> Result<v1::SubscribeDomainEventsResponse, Problem> {
    let created = state
        .client
        .subscribe_domain_events(&request.subscriber, &request.namespaces, &request.patterns)
        .await?;
    Ok(v1::SubscribeDomainEventsResponse { created })
}

async fn unsubscribe_domain_events(
    state: &AppState,
    request: v1::UnsubscribeDomainEventsRequest,
) -> Result<v1::UnsubscribeDomainEventsResponse, Problem> {
    let v1::UnsubscribeDomainEventsRequest {
        subscriber,
        namespace,
        pattern,
    } = request;
    let unsubscribed = state
        .client
        .unsubscribe_domain_events(&subscriber, &namespace, &pattern)
        .await?;
    Ok(v1::UnsubscribeDomainEventsResponse {
        subscriber,
        namespace,
        pattern,
        unsubscribed,
    })
}

async fn claim_domain_events(
    state: &AppState,
    request: v1::ClaimDomainEventsRequest,
) -> Result<v1::ClaimDomainEventsResponse, Problem> {
    let max_events = request.max_events.unwrap_or(DEFAULT_EVENTS);
    let claim = EventClaim {
        worker_id: request.worker_id,
        subscriber: request.subscriber,
        namespaces: request.namespaces,
        patterns: request.patterns,
        max_events: wire::count("max_events", max_events)?,
        lease: wire::lease(request.lease_seconds)?,
    };
    let items = state.client.claim_domain_events(&claim).await?.to_wire();
    Ok(v1::ClaimDomainEventsResponse { items })
}

async fn finish_domain_events(
    state: &AppState,
    request: v1::FinishDomainEventsRequest,
) -> Result<v1::FinishDomainEventsResponse, Problem> {
    let deliveries: Vec<Delivery> = request
        .deliveries
        .into_iter()
        .map(delivery)
        .collect::<Result<_, _>>()?;
    let verdicts = state
        .client
        .finish_domain_events(&request.worker_id, &deliveries)
        .await?;
    Ok(v1::FinishDomainEventsResponse {
        items: verdicts.to_wire(),
    })
}

fn delivery(given: v1::Delivery) -> Result<Delivery, Problem> {
    Ok(Delivery {
        namespace: given.namespace,
        msg_id: given.msg_id,
        delivery: given.delivery,
        status: match given.status.as_str() {
            "done" => DeliveryStatus::Done,
            "fail" => DeliveryStatus::Fail,
            "release" => DeliveryStatus::Release,
            other => {
                return Err(Problem::bad_parameter(format!(
                    "status is {other:?}, and must be done, fail or release"
                )));
            }
        },
        error: given.error,
    })
}
