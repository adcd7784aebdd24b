//! What gRPC changes, service by service. What it refuses is in `grpc_refusals`.

use serde_json::{Value, json};
use tasker_tests::by_hand::{
    APPROVAL, BOOKING, PAYMENT, complete, create, failed_payment, register,
};
use tasker_tests::grpc::{Grpc, code_of};
use tasker_tests::investigations::failed;
use tasker_tests::{Server, TestDatabase};
use tonic::Code;

async fn stage(templates: &[&str]) -> anyhow::Result<(TestDatabase, Server, Grpc)> {
    let database = TestDatabase::new().await?;
    register(database.client(), templates).await?;
    let server = Server::start(database.url(), &[]).await?;
    let grpc = server.grpc().await?;
    Ok((database, server, grpc))
}

#[tokio::test]
async fn tasks_are_created_steered_and_cancelled() -> anyhow::Result<()> {
    let (database, _server, grpc) = stage(&[BOOKING, APPROVAL]).await?;
    let new = json!({"template_name": "booking", "idempotency_key": "k", "context_json": "{\"n\": 12345678901234567890}"});
    let first = grpc.get("TaskService/CreateTask", new.clone()).await?;
    let again = grpc.get("TaskService/CreateTask", new).await?;
    assert_eq!(
        (&first["created"], &again["created"]),
        (&json!(true), &json!(false))
    );
    assert_eq!(first["task"]["task_uuid"], again["task"]["task_uuid"]);
    assert_eq!(
        first["task"]["context_json"],
        "{\"n\": 12345678901234567890}"
    );
    let task = json!({"task_uuid": first["task"]["task_uuid"]});

    let many = json!({"requests": [{"template_name": "booking"}, {"template_name": "approval"}]});
    let many = grpc.get("TaskService/CreateTasks", many).await?;
    assert_eq!(many["items"][1]["ordinal"], 2);
    let waiting = many["items"][1]["task_uuid"].clone();

    let paused = grpc.get("TaskService/PauseTask", task.clone()).await?;
    assert_eq!(paused["paused"], true);
    assert!(paused["task"]["paused_at"].is_string());
    let resumed = grpc.get("TaskService/ResumeTask", task.clone()).await?;
    assert_eq!(resumed["resumed"], true);
    let signal =
        json!({"task_uuid": waiting, "name": "approved", "payload_json": "{\"by\": \"me\"}"});
    let sent = grpc.get("TaskService/SendSignal", signal).await?;
    assert_eq!(sent["sent"], true);
    let cancelled = grpc.get("TaskService/CancelTask", task.clone()).await?;
    assert_eq!(
        (&cancelled["cancelled"], &cancelled["task"]["state"]),
        (&json!(true), &json!("cancelled"))
    );
    let rerun = grpc.get("TaskService/RerunTask", task).await?;
    assert_ne!(rerun["state"], "cancelled");

    let bulk = json!({"filter": {"namespace": "default"}, "action": "cancel"});
    let found = grpc.get("TaskService/ApplyToTasks", bulk).await?;
    assert!(
        found["job_uuid"].is_null() && found["matched"] == 3,
        "{found}"
    );
    let bulk = json!({"filter": {"namespace": "default"}, "action": "pause", "dry_run": false});
    let job = grpc.get("TaskService/ApplyToTasks", bulk).await?;
    let ended = grpc
        .get(
            "TaskService/CancelBulkJob",
            json!({"job_uuid": job["job_uuid"]}),
        )
        .await?;
    assert!(ended["cancelled"].is_boolean());
    assert!(database.client().verify(None).await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn steps_are_repaired() -> anyhow::Result<()> {
    let (database, _server, grpc) = stage(&[PAYMENT]).await?;
    let task_uuid = failed_payment(database.client()).await?;
    let step = database.client().list_steps(task_uuid).await?.pop();
    let step = json!(step.map(|step| step.step_uuid));
    let reset = grpc
        .get(
            "StepService/ResetStep",
            json!({"step_uuid": step, "reason": "again"}),
        )
        .await?;
    assert_eq!(
        (&reset["state"], &reset["attempts_used"]),
        (&json!("enqueued"), &json!(0))
    );
    let given = json!({"step_uuid": step, "result_json": "{\"paid\": true}"});
    let done = grpc.get("StepService/CompleteStepManually", given).await?;
    assert_eq!(done["result_json"], "{\"paid\": true}");
    let other = failed_payment(database.client()).await?;
    let step = database.client().list_steps(other).await?.pop();
    let step = json!({"step_uuid": step.map(|step| step.step_uuid)});
    let settled = grpc.get("StepService/ResolveStep", step).await?;
    assert_eq!(settled["state"], "resolved_manually");
    Ok(())
}

#[tokio::test]
async fn templates_are_validated_registered_and_retired() -> anyhow::Result<()> {
    let (_database, _server, grpc) = stage(&[]).await?;
    let json_form = json!({"name": "t", "version": "1.0.0", "steps": [{"name": "a", "handler": {"callable": "t.a"}}]});
    let given = json!({"definition_json": json_form.to_string()});
    let valid = grpc
        .get("TemplateService/ValidateTemplate", given.clone())
        .await?;
    assert_eq!(valid["valid"], true);
    let bad = json!({"definition_yaml": "name: t\nversion: 1.0.0\nsteps: [{name: a, handler: {callable: t.a}, dependencies: [none]}]\n"});
    let invalid = grpc
        .get("TemplateService/ValidateTemplate", bad.clone())
        .await?;
    assert!(invalid["valid"] == false && invalid["findings"][0]["severity"] == "error");
    let refused = grpc
        .refused("TemplateService/RegisterTemplate", bad)
        .await?;
    assert_eq!(
        (refused.code(), code_of(&refused).as_str()),
        (Code::InvalidArgument, "TK020")
    );
    let registered = grpc.get("TemplateService/RegisterTemplate", given).await?;
    assert_eq!(registered["created"], true);
    let yaml = json!({"definition_yaml": BOOKING});
    grpc.get("TemplateService/RegisterTemplate", yaml).await?;
    let which = json!({"name": "t", "version": "1.0.0"});
    let retired = grpc.get("TemplateService/RetireTemplate", which).await?;
    assert!(retired["retired"] == true && retired["template"]["retired_at"].is_string());
    let refused = grpc
        .refused(
            "TaskService/CreateTask",
            json!({"template_name": "t", "version": "1.0.0"}),
        )
        .await?;
    assert_eq!(
        (refused.code(), code_of(&refused).as_str()),
        (Code::FailedPrecondition, "TK015")
    );
    Ok(())
}

#[tokio::test]
async fn dead_letters_are_opened_and_resolved() -> anyhow::Result<()> {
    let (database, _server, grpc) = stage(&[BOOKING]).await?;
    failed(&database, 0).await?;
    let listed = grpc.get("DlqService/ListDeadLetters", json!({})).await?;
    let letter = listed["items"][0]["dead_letter_uuid"].clone();
    let resolution =
        json!({"dead_letter_uuid": letter, "resolution": "permanently_failed", "note": "gone"});
    let resolved = grpc
        .get("DlqService/ResolveDeadLetter", resolution.clone())
        .await?;
    assert_eq!(
        (&resolved["resolution"], &resolved["note"]),
        (&json!("permanently_failed"), &json!("gone"))
    );
    let refused = grpc
        .refused("DlqService/ResolveDeadLetter", resolution)
        .await?;
    assert_eq!(
        (refused.code(), code_of(&refused).as_str()),
        (Code::FailedPrecondition, "TK010")
    );
    let task_uuid = create(database.client(), "booking").await?;
    let open = json!({"task_uuid": task_uuid, "reason": "charged twice"});
    let opened = grpc.get("DlqService/OpenDeadLetter", open.clone()).await?;
    assert_eq!(opened["reason"], "manual_dlq");
    let refused = grpc.refused("DlqService/OpenDeadLetter", open).await?;
    assert_eq!(
        (refused.code(), code_of(&refused).as_str()),
        (Code::AlreadyExists, "23505")
    );
    Ok(())
}

#[tokio::test]
async fn schedules_and_namespaces_are_changed() -> anyhow::Result<()> {
    let (database, _server, grpc) = stage(&[BOOKING]).await?;
    let new = json!({"name": "nightly", "cron": "0 0 * * *", "template_name": "booking"});
    let made = grpc
        .get("ScheduleService/CreateSchedule", new.clone())
        .await?;
    assert_eq!(
        (&made["timezone"], &made["catch_up"]),
        (&json!("UTC"), &json!("one"))
    );
    let refused = grpc.refused("ScheduleService/CreateSchedule", new).await?;
    assert_eq!(refused.code(), Code::AlreadyExists);
    let which = json!({"name": "nightly"});
    assert_eq!(
        grpc.get("ScheduleService/PauseSchedule", which.clone())
            .await?["paused"],
        true
    );
    assert_eq!(
        grpc.get("ScheduleService/ResumeSchedule", which.clone())
            .await?["resumed"],
        true
    );
    let times =
        json!({"name": "nightly", "from": "2026-01-01T00:00:00Z", "to": "2026-01-03T00:00:00Z"});
    assert_eq!(
        grpc.get("ScheduleService/BackfillSchedule", times).await?["created"],
        2
    );
    let refused = grpc
        .refused("ScheduleService/BackfillSchedule", which.clone())
        .await?;
    assert_eq!(code_of(&refused), "22023");
    grpc.get("ScheduleService/DeleteSchedule", which.clone())
        .await?;
    let refused = grpc
        .refused("ScheduleService/DeleteSchedule", which)
        .await?;
    assert_eq!(
        (refused.code(), code_of(&refused).as_str()),
        (Code::NotFound, "TK004")
    );

    let settings = json!({"name": "default", "settings_json": "{\"retention_days\": 3}"});
    let set = grpc.get("NamespaceService/SetNamespace", settings).await?;
    let kept: Value = serde_json::from_str(set["settings_json"].as_str().unwrap_or_default())?;
    assert_eq!(kept, json!({"retention_days": 3}));
    let which = json!({"name": "default"});
    assert_eq!(
        grpc.get("NamespaceService/PauseNamespace", which.clone())
            .await?["paused"],
        true
    );
    assert_eq!(
        grpc.get("NamespaceService/ResumeNamespace", which).await?["resumed"],
        true
    );
    complete_nothing(&database).await
}

async fn complete_nothing(database: &TestDatabase) -> anyhow::Result<()> {
    // The tasks of the backfill can be worked on.
    complete(database.client(), "flight", &json!(1)).await
}
