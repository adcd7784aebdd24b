//! Signals, of `TaskService`.

use tasker_grpc::v1;

use super::wire::{self, ToWire, message};
use crate::problem::Problem;
use crate::routes::AppState;

message!(tasker_client::Signal => Signal {
    name, step_names, waiting, sent_at, sent_by;
    json payload => payload_json
});

pub(super) async fn send_signal(
    state: &AppState,
    request: v1::SendSignalRequest,
) -> Result<v1::SendSignalResponse, Problem> {
    let task_uuid = wire::uuid("task_uuid", &request.task_uuid)?;
    let payload = wire::optional_json("payload_json", request.payload_json)?;
    let sent = state
        .client
        .send_signal(task_uuid, &request.name, payload.as_deref())
        .await?;
    Ok(v1::SendSignalResponse {
        task_uuid: task_uuid.to_wire(),
        name: request.name,
        sent,
    })
}

pub(super) async fn list_signals(
    state: &AppState,
    request: v1::ListSignalsRequest,
) -> Result<v1::ListSignalsResponse, Problem> {
    let task_uuid = wire::uuid("task_uuid", &request.task_uuid)?;
    let items = state.client.list_signals(task_uuid).await?.to_wire();
    Ok(v1::ListSignalsResponse { items })
}
