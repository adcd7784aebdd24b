//! What gRPC refuses: each by its code, and nothing of it as an error of the server.

use serde_json::{Value, json};
use tasker_tests::by_hand::{APPROVAL, BOOKING, register};
use tasker_tests::grpc::{Grpc, code_of};
use tasker_tests::{Server, TestDatabase};
use tonic::Code;

const NOBODY: &str = "01890000-0000-7000-8000-000000000000";
const CREATE: &str = "TaskService/CreateTask";

async fn stage() -> anyhow::Result<(TestDatabase, Server, Grpc)> {
    let database = TestDatabase::new().await?;
    register(database.client(), &[BOOKING, APPROVAL]).await?;
    let server = Server::start(database.url(), &[]).await?;
    let grpc = server.grpc().await?;
    Ok((database, server, grpc))
}

async fn refused_with(
    grpc: &Grpc,
    method: &str,
    request: Value,
    code: Code,
    reason: &str,
) -> anyhow::Result<()> {
    let refused = grpc.refused(method, request.clone()).await?;
    let found = code_of(&refused);
    assert_eq!(
        (refused.code(), found.as_str()),
        (code, reason),
        "{method} {request}: {refused:?}"
    );
    assert!(!refused.message().is_empty(), "{method} {request}");
    Ok(())
}

#[tokio::test]
async fn what_is_not_there_and_what_is_not_allowed_have_their_codes() -> anyhow::Result<()> {
    let (_database, _server, grpc) = stage().await?;
    let key = json!({"template_name": "booking", "idempotency_key": "k"});
    grpc.get(CREATE, key.clone()).await?;
    let mut other = key;
    other["context_json"] = json!("{\"other\": 1}");
    let changed = json!({"definition_yaml": BOOKING.replace("t.pay", "t.other")});
    let waiting = json!({"template_name": "approval"});
    let waiting = grpc.get(CREATE, waiting).await?["task"]["task_uuid"].clone();
    let rerun = json!({"task_uuid": waiting});
    let signal = json!({"task_uuid": waiting, "name": "approved", "payload_json": "{}"});
    let task = json!({"task_uuid": NOBODY});
    let step = json!({"step_uuid": NOBODY});
    let template = json!({"name": "none"});
    let worker = json!({"worker_id": "none"});
    for (method, request, code, reason) in [
        ("TaskService/GetTask", task, Code::NotFound, "TK001"),
        ("StepService/GetStep", step, Code::NotFound, "TK002"),
        (
            "TemplateService/GetTemplate",
            template,
            Code::NotFound,
            "TK003",
        ),
        (
            "WorkerService/RetireWorker",
            worker,
            Code::NotFound,
            "TK004",
        ),
        (
            "TaskService/RerunTask",
            rerun,
            Code::FailedPrecondition,
            "TK010",
        ),
        (CREATE, other, Code::AlreadyExists, "TK013"),
        (
            "TemplateService/RegisterTemplate",
            changed,
            Code::AlreadyExists,
            "TK014",
        ),
        (
            "TaskService/SendSignal",
            signal,
            Code::InvalidArgument,
            "TK021",
        ),
    ] {
        refused_with(&grpc, method, request, code, reason).await?;
    }
    Ok(())
}

#[tokio::test]
async fn what_cannot_be_used_is_the_mistake_of_the_caller() -> anyhow::Result<()> {
    let (_database, _server, grpc) = stage().await?;
    let booking = |field: &str, value: Value| {
        let mut request = json!({"template_name": "booking"});
        request[field] = value;
        request
    };
    let settings = json!({"name": "default", "settings_json": "{\"nothing\": 1}"});
    let explode = json!({"filter": {}, "action": "explode"});
    for (method, request, reason) in [
        (
            "TaskService/GetTask",
            json!({"task_uuid": "nothing"}),
            "22P02",
        ),
        ("TaskService/GetTask", json!({}), "22P02"),
        (CREATE, booking("context_json", json!("{")), "22P02"),
        (CREATE, booking("priority", json!(101)), "22023"),
        (CREATE, json!({"template_name": "b\u{0}"}), "22P05"),
        ("TaskService/ListTasks", json!({"limit": 501}), "22023"),
        (
            "TaskService/ApplyToTasks",
            json!({"action": "cancel"}),
            "22023",
        ),
        ("TaskService/ApplyToTasks", explode, "22023"),
        (
            "StepService/CompleteStepManually",
            json!({"step_uuid": NOBODY}),
            "22023",
        ),
        ("TemplateService/RegisterTemplate", json!({}), "22023"),
        ("NamespaceService/SetNamespace", settings, "22023"),
        (
            "AnalyticsService/GetSlowestStepsAndTasks",
            json!({"limit": 21}),
            "22023",
        ),
        (
            "DlqService/ListDeadLetters",
            json!({"resolution": "none"}),
            "22023",
        ),
    ] {
        refused_with(&grpc, method, request, Code::InvalidArgument, reason).await?;
    }
    Ok(())
}
