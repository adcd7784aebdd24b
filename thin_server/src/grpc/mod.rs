//! gRPC: the operations of REST as methods of the package `tasker.v1`, on an address of its own.
//!
//! | module | holds |
//! |---|---|
//! | `tasks`, `bulk`, `signals`, `steps`, `templates`, `dead_letters`, `domain_events`, `analytics`, `workers`, `schedules`, `namespaces`, `system` | the methods; each is a call of one function of the client |
//! | `events` | streams of the feed |
//! | `standard_health` | `grpc.health.v1` |
//! | `wire` | rows as messages, fields of messages read |
//! | `status` | problems as statuses |
//! | `gate`, `deadline`, `surround` | what surrounds every call: who may, how long, its id and its line in the log |
//! | `serve` | connections |

mod analytics;
mod bulk;
mod dead_letters;
mod deadline;
mod domain_events;
mod events;
mod gate;
mod namespaces;
mod schedules;
mod serve;
mod signals;
mod standard_health;
pub(crate) mod status;
mod steps;
mod surround;
mod system;
mod tasks;
mod templates;
mod wire;
mod workers;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::serve::Listener;
use tasker_grpc::DESCRIPTORS;
use tasker_grpc::v1::analytics_service_server::AnalyticsServiceServer;
use tasker_grpc::v1::dlq_service_server::DlqServiceServer;
use tasker_grpc::v1::domain_event_service_server::DomainEventServiceServer;
use tasker_grpc::v1::health_service_server::HealthServiceServer;
use tasker_grpc::v1::namespace_service_server::NamespaceServiceServer;
use tasker_grpc::v1::schedule_service_server::ScheduleServiceServer;
use tasker_grpc::v1::step_service_server::StepServiceServer;
use tasker_grpc::v1::system_service_server::SystemServiceServer;
use tasker_grpc::v1::task_service_server::TaskServiceServer;
use tasker_grpc::v1::template_service_server::TemplateServiceServer;
use tasker_grpc::v1::worker_service_server::WorkerServiceServer;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tonic::service::Routes;
use tonic_health::pb::health_server::HealthServer;
use tower_http::catch_panic::CatchPanicLayer;

use self::gate::Gate;
use self::standard_health::StandardHealth;
use crate::auth::Authentication;
use crate::limits::Limits;
use crate::patience::PatientListener;
use crate::problem::{self, Problem};
use crate::routes::{self, AppState, MAX_BODY_BYTES};
use crate::tls::{Files, TlsListener};

/// What all services are methods of.
#[derive(Clone)]
struct Door(AppState);

/// Implements a service of the package `tasker.v1`: each method is the function of its name in the same module. What follows `with` is taken as it is.
macro_rules! service {
    ($service:ident { $($method:ident($request:ident) -> $response:ident),* $(,)? } $(with { $($more:tt)* })?) => {
        #[tonic::async_trait]
        impl $service for Door {
            $(
                async fn $method(
                    &self,
                    request: Request<v1::$request>,
                ) -> Result<Response<v1::$response>, Status> {
                    $crate::grpc::status::answer($method(&self.0, request.into_inner()).await)
                }
            )*
            $($($more)*)?
        }
    };
}
use service;

/// All methods, with what surrounds them.
pub(crate) fn routes(
    state: &AppState,
    authentication: Option<Arc<Authentication>>,
    limits: Limits,
    stopped: &watch::Receiver<bool>,
) -> anyhow::Result<Router> {
    let mut services = Routes::builder();
    macro_rules! add {
        ($($server:ident),*) => {
            $(services.add_service(
                $server::new(Door(state.clone())).max_decoding_message_size(MAX_BODY_BYTES),
            );)*
        };
    }
    add!(
        AnalyticsServiceServer,
        DlqServiceServer,
        DomainEventServiceServer,
        HealthServiceServer,
        NamespaceServiceServer,
        ScheduleServiceServer,
        StepServiceServer,
        SystemServiceServer,
        TaskServiceServer,
        TemplateServiceServer,
        WorkerServiceServer
    );
    let standard = StandardHealth::new(state.clone(), stopped.clone());
    services.add_service(HealthServer::new(standard));
    services.add_service(reflection().build_v1()?);
    services.add_service(reflection().build_v1alpha()?);
    let unknown = async |uri: axum::http::Uri| Problem::method_unknown(uri.path());
    let mut router = services
        .routes()
        .into_axum_router()
        .fallback(unknown)
        .layer(from_fn_with_state(limits, deadline::guard));
    if let Some(authentication) = authentication {
        let gate = Gate::new(authentication, &routes::document())?;
        router = router.layer(from_fn_with_state(gate, gate::guard));
    }
    Ok(router
        .layer(CatchPanicLayer::custom(problem::of_panic))
        .layer(from_fn_with_state(
            state.metrics.clone(),
            surround::surround,
        ))
        .layer(from_fn(surround::trace)))
}

fn reflection<'b>() -> tonic_reflection::server::Builder<'b> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
}

/// Serves until the server is told to stop, and then the calls under way.
pub(crate) fn start(
    listener: PatientListener,
    tls: Option<Files>,
    routes: Router,
    ping_every: Duration,
    stopped: &watch::Receiver<bool>,
) -> anyhow::Result<JoinHandle<()>> {
    let address = listener.local_addr()?;
    let stopped = stopped.clone();
    tracing::info!(%address, tls = tls.is_some(), "serving gRPC");
    if let Some(files) = tls {
        let listener = TlsListener::new(listener, files.for_http2())?;
        return Ok(tokio::spawn(serve::serve(
            listener, routes, ping_every, stopped,
        )));
    }
    Ok(tokio::spawn(serve::serve(
        listener, routes, ping_every, stopped,
    )))
}
