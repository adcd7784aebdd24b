//! gRPC as a server: reflection, health, TLS, bounds, what isn't a call, metrics, a stop.

use std::time::Duration;

use anyhow::Context;
use serde_json::json;
use tasker_grpc::OPERATIONS;
use tasker_tests::credentials::Certificate;
use tasker_tests::exposition::Exposition;
use tasker_tests::grpc::{Grpc, code_of};
use tasker_tests::{Program, Server, TestDatabase, eventually};
use tokio::net::TcpStream;
use tonic::transport::{Certificate as Trusted, ClientTlsConfig, Endpoint};
use tonic::{Code, Request};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use tonic_types::StatusExt;

const WITHIN: Duration = Duration::from_secs(20);

#[tokio::test]
async fn reflection_lists_every_service_also_to_strangers() -> anyhow::Result<()> {
    let database = TestDatabase::new().await?;
    let server = Server::start(database.url(), &["--authentication"]).await?;
    let mut reflection = ServerReflectionClient::new(server.grpc().await?.channel());
    let ask = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let asked = Request::new(tonic::codegen::tokio_stream::once(ask));
    let mut answers = reflection.server_reflection_info(asked).await?.into_inner();
    let answer = answers.message().await?.context("an answer")?;
    let Some(MessageResponse::ListServicesResponse(listed)) = answer.message_response else {
        anyhow::bail!("answered {answer:?}");
    };
    let names: Vec<String> = listed
        .service
        .into_iter()
        .map(|service| service.name)
        .collect();
    for (path, _) in OPERATIONS {
        let service = path
            .trim_start_matches('/')
            .split('/')
            .next()
            .unwrap_or_default();
        assert!(
            names.iter().any(|name| name == service),
            "{service} isn't among {names:?}"
        );
    }
    assert!(names.iter().any(|name| name == "grpc.health.v1.Health"));
    Ok(())
}

#[tokio::test]
async fn health_is_serving_once_the_database_can_serve() -> anyhow::Result<()> {
    let database = TestDatabase::empty().await?;
    let server = Server::start(database.url(), &["--authentication"]).await?;
    let mut health = HealthClient::new(server.grpc().await?.channel());
    let of = |service: &str| HealthCheckRequest {
        service: service.to_owned(),
    };
    let status = health.check(of("")).await?.into_inner().status();
    assert_eq!(status, ServingStatus::NotServing);
    let mut watched = health
        .watch(of("tasker.v1.TaskService"))
        .await?
        .into_inner();
    let first = watched.message().await?.context("a status")?;
    assert_eq!(first.status(), ServingStatus::NotServing);
    tasker_client::init(database.client()).await?;
    let second = tokio::time::timeout(WITHIN, watched.message()).await??;
    assert_eq!(second.context("a status")?.status(), ServingStatus::Serving);
    let status = health
        .check(of("tasker.v1.StepService"))
        .await?
        .into_inner()
        .status();
    assert_eq!(status, ServingStatus::Serving);
    let unknown = health
        .check(of("nothing"))
        .await
        .expect_err("no such service");
    assert_eq!(unknown.code(), Code::NotFound);
    let grpc = server.grpc().await?;
    let ready = grpc.get("HealthService/GetReadiness", json!({})).await?;
    assert_eq!(ready["status"], "ready");
    let detailed = grpc
        .get("HealthService/GetDetailedHealth", json!({}))
        .await?;
    assert_eq!(detailed["version"], detailed["extension_version"]);
    Ok(())
}

#[tokio::test]
async fn what_is_no_call_is_refused_and_never_the_fault_of_the_server() -> anyhow::Result<()> {
    let database = TestDatabase::with_examples().await?;
    let server = Server::start(database.url(), &[]).await?;
    let grpc = server.grpc().await?;
    let create = "/tasker.v1.TaskService/CreateTask";
    for (path, bytes, code, reason) in [
        (
            create,
            b"\xff\xff\xff".to_vec(),
            Code::InvalidArgument,
            "22P02",
        ),
        // A text that isn't UTF-8.
        (
            create,
            b"\x0a\x02\xff\xfe".to_vec(),
            Code::InvalidArgument,
            "22P02",
        ),
        (
            create,
            vec![0x0a; 2 * 1024 * 1024],
            Code::ResourceExhausted,
            "body_too_large",
        ),
        (
            "/tasker.v1.TaskService/Nothing",
            vec![],
            Code::Unimplemented,
            "method_unknown",
        ),
        (
            "/nothing.v1.Nothing/Nothing",
            vec![],
            Code::Unimplemented,
            "method_unknown",
        ),
    ] {
        let refused = grpc.send_bytes(path, bytes).await?.expect_err(path);
        assert_eq!(
            (refused.code(), code_of(&refused).as_str()),
            (code, reason),
            "{refused:?}"
        );
    }
    assert!(
        !server.program.log().contains("ERROR"),
        "{}",
        server.program.log()
    );
    Ok(())
}

#[tokio::test]
async fn a_request_id_is_taken_from_the_caller_and_given_back() -> anyhow::Result<()> {
    let database = TestDatabase::with_examples().await?;
    let server = Server::start(database.url(), &[]).await?;
    let grpc = server.grpc().await?.with("x-request-id", "abc-1");
    let refused = grpc
        .refused("TaskService/GetTask", json!({"task_uuid": "x"}))
        .await?;
    let details = refused.get_details_request_info().context("details")?;
    assert_eq!(details.request_id, "abc-1");
    let given = refused.metadata().get("x-request-id").context("metadata")?;
    assert_eq!(given.to_str()?, "abc-1");
    let info = refused.get_details_error_info().context("details")?;
    assert_eq!(info.domain, "tasker");
    let log = server.program.log();
    let line = log
        .lines()
        .find(|line| line.contains("abc-1"))
        .context("a line")?;
    assert!(
        line.contains("tasker.v1.TaskService/GetTask") && line.contains("INVALID_ARGUMENT"),
        "{line}"
    );
    Ok(())
}

#[tokio::test]
async fn a_full_server_says_when_to_come_back_and_counts_it() -> anyhow::Result<()> {
    let database = TestDatabase::with_examples().await?;
    let flags = ["--concurrent-requests", "1", "--no-maintenance"];
    let server = Server::start(database.url(), &flags).await?;
    let grpc = server.grpc().await?;
    let mut holding = database.session().await?;
    sqlx::query("begin").execute(&mut holding).await?;
    sqlx::query("lock table tasker.schedules in access exclusive mode")
        .execute(&mut holding)
        .await?;
    let waiting = {
        let grpc = grpc.clone();
        tokio::spawn(async move { grpc.get("ScheduleService/ListSchedules", json!({})).await })
    };
    database.until_calls_wait(1).await?;
    let busy = grpc.refused("TaskService/ListTasks", json!({})).await?;
    assert_eq!(
        (busy.code(), code_of(&busy).as_str()),
        (Code::Unavailable, "server_busy")
    );
    let retry = busy.get_details_retry_info().context("details")?;
    assert_eq!(retry.retry_delay, Some(Duration::from_secs(1)));
    // The same bound counts for REST, and health is told all the same.
    assert_eq!(server.get("/v1/tasks").await?.status, 503);
    grpc.get("HealthService/GetLiveness", json!({})).await?;
    sqlx::query("rollback").execute(&mut holding).await?;
    waiting.await??;

    let metrics = server
        .request(reqwest::Method::GET, "/metrics")
        .send()
        .await?;
    let found = Exposition::read(&metrics.text().await?)?;
    let listed = "tasker_grpc_requests_total{code=\"OK\",method=\"tasker.v1.ScheduleService/ListSchedules\"}";
    assert!(found.value(listed)? >= 1.0);
    assert!(found.value("tasker_grpc_refusals_total{code=\"server_busy\"}")? >= 1.0);
    Ok(())
}

async fn over_tls(server: &Server, trusted: &str) -> anyhow::Result<Grpc> {
    let tls = ClientTlsConfig::new()
        .ca_certificate(Trusted::from_pem(trusted))
        .domain_name("127.0.0.1");
    let endpoint = Endpoint::from_shared(format!("https://{}", server.grpc))?;
    Grpc::connect(endpoint.tls_config(tls)?).await
}

#[tokio::test]
async fn tls_is_spoken_with_the_certificate_in_the_files_also_when_it_changes() -> anyhow::Result<()>
{
    let database = TestDatabase::new().await?;
    let mut certificate = Certificate::new()?;
    let (file, key) = (
        certificate.file().display().to_string(),
        certificate.key_file().display().to_string(),
    );
    let flags = ["--tls-certificate", &file, "--tls-key", &key];
    let server = Server::start(database.url(), &flags).await?;
    let before = certificate.pem.clone();
    let grpc = over_tls(&server, &before).await?;
    grpc.get("HealthService/GetLiveness", json!({})).await?;
    assert!(
        server.grpc().await.is_err() || {
            let plain = server.grpc().await?;
            plain
                .call("HealthService/GetLiveness", json!({}))
                .await?
                .is_err()
        }
    );
    certificate.replace()?;
    eventually("the new certificate counts", WITHIN, async || {
        Ok(over_tls(&server, &certificate.pem).await.ok().map(drop))
    })
    .await?;
    assert!(over_tls(&server, &before).await.is_err());
    Ok(())
}

#[tokio::test]
async fn calls_under_way_are_finished_at_a_stop() -> anyhow::Result<()> {
    let database = TestDatabase::with_examples().await?;
    let mut server = Server::start(database.url(), &["--no-maintenance"]).await?;
    let grpc = server.grpc().await?;
    let mut holding = database.session().await?;
    sqlx::query("begin").execute(&mut holding).await?;
    sqlx::query("lock table tasker.schedules in access exclusive mode")
        .execute(&mut holding)
        .await?;
    let waiting =
        tokio::spawn(async move { grpc.get("ScheduleService/ListSchedules", json!({})).await });
    eventually("the call waits", WITHIN, async || {
        let waits: bool = sqlx::query_scalar("select exists (select from pg_locks where not granted and database = (select oid from pg_database where datname = current_database()))")
            .fetch_one(database.pool())
            .await?;
        Ok(waits.then_some(()))
    })
    .await?;
    let address = server.grpc.clone();
    let stopped = tokio::spawn(async move { server.program.terminate(WITHIN).await });
    eventually("nothing is listened on", WITHIN, async || {
        Ok(TcpStream::connect(&address).await.err().map(drop))
    })
    .await?;
    sqlx::query("rollback").execute(&mut holding).await?;
    waiting.await??;
    assert!(stopped.await??.success());
    Ok(())
}

#[tokio::test]
async fn it_is_off_when_told_so_and_beyond_loopback_only_when_told() -> anyhow::Result<()> {
    let database = TestDatabase::new().await?;
    let listen = ["--listen", "127.0.0.1:0", "--grpc-listen"];
    let off = [&listen[..], &["off"]].concat();
    let server = Program::start("tasker-server", database.url(), &off)?;
    eventually("it listens", WITHIN, async || {
        Ok(server.log().contains("listening").then_some(()))
    })
    .await?;
    assert!(!server.log().contains("serving gRPC"));
    let open = [&listen[..], &["0.0.0.0:0"]].concat();
    let mut refused = Program::start("tasker-server", database.url(), &open)?;
    assert!(!refused.ended(WITHIN).await?.success());
    assert!(
        refused.log().contains("--authentication"),
        "{}",
        refused.log()
    );
    Ok(())
}
