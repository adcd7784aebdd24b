//! A worker that can't reach the database: all that it does goes through gRPC, with the client that is made from the .proto files.

use serde_json::json;
use tasker_client::NewTask;
use tasker_grpc::v1::worker_service_client::WorkerServiceClient;
use tasker_grpc::v1::{
    ClaimRequest, ExtendLeasesRequest, FinishRequest, GetDependencyResultsRequest,
    GetWorkDueRequest, HeartbeatRequest, HeldStep, ListWorkersRequest, Outcome, RegisterRequest,
    SaveCheckpointRequest, StepError,
};
use tasker_tests::by_hand::{BOOKING, create, register};
use tasker_tests::grpc::code_of;
use tasker_tests::{Server, TestDatabase};
use tonic::Code;
use tonic::transport::Channel;

const HUGE: &str = "123456789012345678901234567890";

async fn stage(
    templates: &[&str],
) -> anyhow::Result<(TestDatabase, Server, WorkerServiceClient<Channel>)> {
    let database = TestDatabase::new().await?;
    register(database.client(), templates).await?;
    let server = Server::start(database.url(), &[]).await?;
    let worker = WorkerServiceClient::new(server.grpc().await?.channel());
    Ok((database, server, worker))
}

fn claim() -> ClaimRequest {
    ClaimRequest {
        worker_id: "remote".to_owned(),
        namespaces: vec!["default".to_owned()],
        ..ClaimRequest::default()
    }
}

fn complete(step_uuid: &str, attempt: i32, result: &str) -> FinishRequest {
    FinishRequest {
        worker_id: "remote".to_owned(),
        outcomes: vec![Outcome {
            step_uuid: step_uuid.to_owned(),
            attempt,
            status: "complete".to_owned(),
            result_json: Some(result.to_owned()),
            ..Outcome::default()
        }],
        claim_next: 1,
        ..FinishRequest::default()
    }
}

#[tokio::test]
async fn a_task_is_worked_through_with_every_digit_kept() -> anyhow::Result<()> {
    let (database, _server, mut worker) = stage(&[BOOKING]).await?;
    worker
        .register(RegisterRequest {
            worker_id: "remote".to_owned(),
            namespaces: vec!["default".to_owned()],
            handlers: vec!["t.flight".to_owned(), "t.pay".to_owned()],
            language: "go".to_owned(),
            version: "1".to_owned(),
        })
        .await?;
    let context = format!("{{\"n\": {HUGE}}}");
    let task = NewTask {
        template_name: "booking".to_owned(),
        context: Some(serde_json::from_str(&context)?),
        ..NewTask::default()
    };
    let task_uuid = database.client().create_task(&task).await?;
    let due = worker
        .get_work_due(GetWorkDueRequest {
            namespaces: vec!["default".to_owned()],
            handlers: vec![],
        })
        .await?;
    assert_eq!(due.into_inner().due_in_ms, Some(0));

    let claimed = worker.claim(claim()).await?.into_inner().items;
    let [first] = &claimed[..] else {
        anyhow::bail!("claimed {claimed:?}");
    };
    assert_eq!((first.step_name.as_str(), first.attempt), ("flight", 1));
    assert!(first.context_json.contains(HUGE), "{}", first.context_json);
    worker
        .save_checkpoint(SaveCheckpointRequest {
            step_uuid: first.step_uuid.clone(),
            attempt: first.attempt,
            checkpoint_json: "{\"at\": 3}".to_owned(),
        })
        .await?;
    let held = worker
        .extend_leases(ExtendLeasesRequest {
            worker_id: "remote".to_owned(),
            steps: vec![HeldStep {
                step_uuid: first.step_uuid.clone(),
                attempt: first.attempt,
            }],
            lease_seconds: Some(60.5),
        })
        .await?
        .into_inner();
    assert_eq!(held.items[0].verdict, "held");

    let finished = worker
        .finish(complete(&first.step_uuid, first.attempt, HUGE))
        .await?
        .into_inner();
    assert_eq!(finished.verdicts[0].verdict, "accepted");
    let second = &finished.claimed[0];
    assert_eq!(second.step_name, "pay");
    assert!(second.dependency_results_json.contains(HUGE));
    let results = worker
        .get_dependency_results(GetDependencyResultsRequest {
            step_uuid: second.step_uuid.clone(),
            ..GetDependencyResultsRequest::default()
        })
        .await?
        .into_inner();
    assert_eq!(results.items[0].result_json.as_deref(), Some(HUGE));
    worker
        .heartbeat(HeartbeatRequest {
            worker_id: "remote".to_owned(),
            running: 1,
            capacity: 4,
        })
        .await?;
    let workers = worker.list_workers(ListWorkersRequest {}).await?;
    assert_eq!(workers.into_inner().items[0].running, 1);
    worker
        .finish(complete(&second.step_uuid, second.attempt, "null"))
        .await?;
    let task = database.client().get_task(task_uuid).await?;
    assert_eq!(task.state, "complete");
    assert!(database.client().verify(None).await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn a_stale_attempt_changes_nothing_and_a_failure_is_stored() -> anyhow::Result<()> {
    let (database, _server, mut worker) = stage(&[BOOKING]).await?;
    create(database.client(), "booking").await?;
    let claimed = worker.claim(claim()).await?.into_inner().items;
    let step = &claimed[0];
    let stale = worker
        .finish(complete(&step.step_uuid, step.attempt + 1, "1"))
        .await?
        .into_inner();
    assert_eq!(stale.verdicts[0].verdict, "lost");
    assert_eq!(stale.verdicts[0].code.as_deref(), Some("TK011"));
    let mut failing = complete(&step.step_uuid, step.attempt, "1");
    failing.outcomes[0] = Outcome {
        step_uuid: step.step_uuid.clone(),
        attempt: step.attempt,
        status: "fail".to_owned(),
        error: Some(StepError {
            message: "no seat".to_owned(),
            retryable: Some(false),
            detail_json: Some("{\"row\": 7}".to_owned()),
            ..StepError::default()
        }),
        ..Outcome::default()
    };
    let failed = worker.finish(failing).await?.into_inner();
    assert_eq!(failed.verdicts[0].verdict, "accepted");
    let step = database.client().get_step(step.step_uuid.parse()?).await?;
    assert_eq!(step.state, "error");
    let error: serde_json::Value = serde_json::from_str(step.error.expect("an error").get())?;
    assert_eq!(error["detail"], json!({"row": 7}));
    Ok(())
}

#[tokio::test]
async fn what_a_worker_says_wrong_is_refused() -> anyhow::Result<()> {
    let (_database, _server, mut worker) = stage(&[BOOKING]).await?;
    let mut unknown = complete("nothing", 1, "1");
    let refused = worker
        .finish(unknown.clone())
        .await
        .expect_err("a bad UUID");
    assert_eq!(
        (refused.code(), code_of(&refused).as_str()),
        (Code::InvalidArgument, "22P02")
    );
    unknown.outcomes[0].step_uuid = uuid::Uuid::now_v7().to_string();
    unknown.outcomes[0].status = "done".to_owned();
    let refused = worker
        .finish(unknown.clone())
        .await
        .expect_err("a bad word");
    assert_eq!(code_of(&refused), "22023");
    unknown.outcomes[0].status = "complete".to_owned();
    unknown.outcomes[0].result_json = Some("{".to_owned());
    let refused = worker.finish(unknown).await.expect_err("no JSON");
    assert_eq!(code_of(&refused), "22P02");
    for (max_steps, lease_seconds) in [(-1, None), (1, Some(-1.0)), (1, Some(1e300))] {
        let mut bad = claim();
        bad.max_steps = Some(max_steps);
        bad.lease_seconds = lease_seconds;
        let refused = worker.claim(bad).await.expect_err("a bad claim");
        assert_eq!(
            refused.code(),
            Code::InvalidArgument,
            "{max_steps} {lease_seconds:?}"
        );
    }
    let stranger = HeartbeatRequest {
        worker_id: "stranger".to_owned(),
        running: 0,
        capacity: 1,
    };
    let refused = worker.heartbeat(stranger).await.expect_err("unknown");
    assert_eq!(
        (refused.code(), code_of(&refused).as_str()),
        (Code::NotFound, "TK004")
    );
    Ok(())
}
