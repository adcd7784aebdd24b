//! `NamespaceService`.

use tasker_grpc::v1::{self, namespace_service_server::NamespaceService};
use tonic::{Request, Response, Status};

use super::wire::{self, ToWire, message};
use super::{Door, service};
use crate::problem::Problem;
use crate::routes::AppState;

message!(tasker_client::Namespace => Namespace {
    name, queue_name, created_at, paused_at, paused_by, pause_reason;
    json settings => settings_json
});

service!(NamespaceService {
    list_namespaces(ListNamespacesRequest) -> ListNamespacesResponse,
    set_namespace(SetNamespaceRequest) -> Namespace,
    pause_namespace(PauseNamespaceRequest) -> PauseNamespaceResponse,
    resume_namespace(ResumeNamespaceRequest) -> ResumeNamespaceResponse,
});

async fn list_namespaces(
    state: &AppState,
    _: v1::ListNamespacesRequest,
) -> Result<v1::ListNamespacesResponse, Problem> {
    let items = state.client.list_namespaces().await?.to_wire();
    Ok(v1::ListNamespacesResponse { items })
}

async fn set_namespace(
    state: &AppState,
    request: v1::SetNamespaceRequest,
) -> Result<v1::Namespace, Problem> {
    let settings = wire::json("settings_json", request.settings_json)?;
    let namespace = state.client.set_namespace(&request.name, &settings).await?;
    Ok(namespace.to_wire())
}

async fn pause_namespace(
    state: &AppState,
    request: v1::PauseNamespaceRequest,
) -> Result<v1::PauseNamespaceResponse, Problem> {
    let name = request.name;
    let reason = request.reason.as_deref();
    let paused = state.client.pause_namespace(&name, reason).await?;
    Ok(v1::PauseNamespaceResponse { name, paused })
}

async fn resume_namespace(
    state: &AppState,
    request: v1::ResumeNamespaceRequest,
) -> Result<v1::ResumeNamespaceResponse, Problem> {
    let name = request.name;
    let resumed = state.client.resume_namespace(&name).await?;
    Ok(v1::ResumeNamespaceResponse { name, resumed })
}
