//! What the server does to tasks that exist: batches created, paused, explained, run anew, signalled, undone.

use reqwest::Method;
use serde_json::{Value, json};
use tasker_tests::by_hand::{self, APPROVAL, BOOKING, PARENT, PAYMENT};
use tasker_tests::http::{Answer, answer};
use tasker_tests::{Server, TestDatabase};
use uuid::Uuid;

async fn stage(templates: &[&str]) -> anyhow::Result<(TestDatabase, Server)> {
    let database = TestDatabase::new().await?;
    by_hand::register(database.client(), templates).await?;
    let server = Server::start(database.url(), &[]).await?;
    Ok((database, server))
}

async fn bare(server: &Server, method: Method, path: &str) -> anyhow::Result<Answer> {
    answer(server.request(method, path)).await
}

fn said(answer: &Answer) -> (u16, &str) {
    (answer.status, answer.code())
}

#[tokio::test]
async fn a_batch_is_created_whole_or_not_at_all() -> anyhow::Result<()> {
    let (_database, server) = stage(&[PAYMENT]).await?;
    let one = json!({"template_name": "payment", "context": {"n": 1}, "idempotency_key": "k"});
    let two = json!({"name": "payment", "priority": 5});
    let created = server
        .post("/v1/tasks/batch", &json!({"requests": [one, two]}))
        .await?;
    assert_eq!(created.status, 201, "{created:?}");
    let items = created.body["items"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    assert_eq!(
        items
            .iter()
            .map(|item| &item["ordinal"])
            .collect::<Vec<_>>(),
        [1, 2]
    );
    let task = format!(
        "/v1/tasks/{}",
        items[1]["task_uuid"].as_str().unwrap_or_default()
    );
    assert_eq!(server.get(&task).await?.body["priority"], 5);

    let again = server
        .post("/v1/tasks/batch", &json!({"requests": [one]}))
        .await?;
    assert_eq!(
        (again.status, &again.body["items"][0]["created"]),
        (200, &json!(false))
    );
    let none = server
        .post("/v1/tasks/batch", &json!({"requests": []}))
        .await?;
    assert_eq!((none.status, &none.body["items"]), (200, &json!([])));

    let unknown = json!({"requests": [two, {"template_name": "nothing"}]});
    assert_eq!(
        said(&server.post("/v1/tasks/batch", &unknown).await?),
        (404, "TK003")
    );
    for bad in [
        json!([two]),
        json!({}),
        json!({"requests": [{"template_name": "payment", "colour": "red"}]}),
        json!({"requests": [two], "more": 1}),
        json!({"requests": [["payment"]]}),
        json!({"requests": [{"template_name": "payment", "priority": 1000}]}),
    ] {
        let refused = server.post("/v1/tasks/batch", &bad).await?;
        assert_eq!(said(&refused), (400, "22023"), "{bad}");
    }
    let listed = server.get("/v1/tasks").await?;
    assert_eq!(listed.body["items"].as_array().map(Vec::len), Some(2));
    Ok(())
}

#[tokio::test]
async fn a_task_is_paused_explained_and_resumed() -> anyhow::Result<()> {
    let (database, server) = stage(&[PAYMENT]).await?;
    let task_uuid = by_hand::create(database.client(), "payment").await?;
    let task = format!("/v1/tasks/{task_uuid}");
    let paused = server
        .post(&format!("{task}/pause"), &json!({"reason": "no power"}))
        .await?;
    assert_eq!(
        (paused.status, &paused.body["paused"]),
        (200, &json!(true)),
        "{paused:?}"
    );
    assert!(paused.body["paused_at"].is_string());
    let again = bare(&server, Method::POST, &format!("{task}/pause")).await?;
    assert_eq!(
        (again.status, &again.body["paused"]),
        (200, &json!(false)),
        "{again:?}"
    );
    let why = server.get(&format!("{task}/explain")).await?;
    let first = &why.body["items"][0];
    assert_eq!(
        (&first["step_name"], &first["reason"]),
        (&json!("price"), &json!("task_paused"))
    );
    assert!(
        first["explanation"]
            .as_str()
            .is_some_and(|text| text.contains("no power")),
        "{first}"
    );
    let resume = format!("{task}/resume");
    assert_eq!(
        bare(&server, Method::POST, &resume).await?.body["resumed"],
        true
    );
    assert_eq!(
        server.post(&resume, &json!({})).await?.body["resumed"],
        false
    );

    server.delete(&task).await?;
    assert_eq!(
        said(&bare(&server, Method::POST, &format!("{task}/pause")).await?),
        (409, "TK010")
    );
    assert_eq!(
        server.get(&format!("{task}/explain")).await?.body["items"],
        json!([])
    );
    Ok(())
}

#[tokio::test]
async fn what_cannot_be_steered_is_refused_with_its_code() -> anyhow::Result<()> {
    let (database, server) = stage(&[PAYMENT]).await?;
    let nothing = format!("/v1/tasks/{}", Uuid::new_v4());
    for action in ["pause", "resume", "rerun", "signals/x"] {
        let path = format!("{nothing}/{action}");
        assert_eq!(
            said(&server.post(&path, &json!({})).await?),
            (404, "TK001"),
            "{action}"
        );
        assert_eq!(
            said(&server.get(&path).await?),
            (405, "method_not_allowed"),
            "{action}"
        );
    }
    for list in ["explain", "compensations", "signals"] {
        let answer = server.get(&format!("{nothing}/{list}")).await?;
        assert_eq!(said(&answer), (404, "TK001"), "{list}");
    }
    let task_uuid = by_hand::create(database.client(), "payment").await?;
    let pause = format!("/v1/tasks/{task_uuid}/pause");
    for bad in [json!({"why": "x"}), json!({"reason": 7}), json!(["x"])] {
        assert_eq!(
            said(&server.post(&pause, &bad).await?),
            (400, "22023"),
            "{bad}"
        );
    }
    assert_eq!(
        said(&server.send(&pause, "application/json", "{").await?),
        (400, "22P02")
    );
    assert_eq!(
        said(&server.send(&pause, "text/plain", "because").await?),
        (415, "content_type_unsupported")
    );
    assert_eq!(
        said(&bare(&server, Method::POST, "/v1/tasks/x/pause").await?),
        (400, "22P02")
    );
    let task = database.client().get_task(task_uuid).await?;
    assert!(task.paused_at.is_none());
    Ok(())
}

#[tokio::test]
async fn a_failed_task_is_run_anew_from_a_step_on() -> anyhow::Result<()> {
    let (database, server) = stage(&[PAYMENT]).await?;
    let client = database.client();
    let running = by_hand::create(client, "payment").await?;
    let refused = bare(&server, Method::POST, &format!("/v1/tasks/{running}/rerun")).await?;
    assert_eq!(said(&refused), (409, "TK010"));
    client.cancel_task(running, None).await?;

    let task_uuid = by_hand::failed_payment(client).await?;
    let rerun = format!("/v1/tasks/{task_uuid}/rerun");
    let refused = server
        .post(&rerun, &json!({"from_step": "nowhere"}))
        .await?;
    assert_eq!(said(&refused), (404, "TK002"));
    let refused = server.post(&rerun, &json!({"context": [1]})).await?;
    assert!(
        (400..500).contains(&refused.status) && !refused.code().is_empty(),
        "{refused:?}"
    );
    let body = json!({"from_step": "pay", "context": {"n": 2}});
    let again = server.post(&rerun, &body).await?;
    assert_eq!(
        (again.status, again.text("state")),
        (200, "steps_in_process"),
        "{again:?}"
    );
    assert_eq!(again.body["context"], json!({"n": 2}));
    by_hand::complete(client, "pay", &json!({"id": 7})).await?;
    assert_eq!(client.get_task(task_uuid).await?.state, "complete");
    let whole = bare(&server, Method::POST, &rerun).await?;
    assert_eq!((whole.status, &whole.body["steps_done"]), (200, &json!(0)));
    Ok(())
}

#[tokio::test]
async fn a_signal_is_sent_once_and_listed() -> anyhow::Result<()> {
    let (database, server) = stage(&[APPROVAL]).await?;
    let client = database.client();
    let task_uuid = by_hand::create(client, "approval").await?;
    let signals = format!("/v1/tasks/{task_uuid}/signals");
    let before = server.get(&signals).await?;
    let awaited = &before.body["items"][0];
    assert_eq!(
        (
            &awaited["name"],
            &awaited["waiting"],
            &awaited["step_names"]
        ),
        (&json!("approved"), &json!(true), &json!(["approve"]))
    );
    let path = format!("{signals}/approved");
    let unknown = server
        .post(&format!("{signals}/%C3%A9"), &json!({}))
        .await?;
    assert_eq!(said(&unknown), (404, "TK004"));
    let unfit = server.post(&path, &json!({"payload": {"of": 1}})).await?;
    assert_eq!(said(&unfit), (422, "TK021"));
    assert_eq!(
        said(&server.post(&path, &json!({"by": "ada"})).await?),
        (400, "22023")
    );
    assert_eq!(
        server
            .post(&format!("{signals}/%00"), &json!({}))
            .await?
            .status,
        400
    );

    let digits = r#"{"payload": {"by": "ada", "n": 123456789012345678901234567890.10}}"#;
    let sent = server.send(&path, "application/json", digits).await?;
    assert_eq!((sent.status, &sent.body["sent"]), (200, &json!(true)));
    let again = server
        .post(&path, &json!({"payload": {"by": "bob"}}))
        .await?;
    assert_eq!((again.status, &again.body["sent"]), (200, &json!(false)));
    let after = server.get(&signals).await?;
    let row = &after.body["items"][0];
    assert_eq!(
        (&row["waiting"], &row["payload"]["by"]),
        (&json!(false), &json!("ada"))
    );
    assert_eq!(
        row["payload"]["n"].to_string(),
        "123456789012345678901234567890.10"
    );

    let other = by_hand::create(client, "approval").await?;
    client.cancel_task(other, None).await?;
    let late = format!("/v1/tasks/{other}/signals/approved");
    let refused = server.post(&late, &json!({"payload": {"by": "x"}})).await?;
    assert_eq!(said(&refused), (409, "TK012"));
    Ok(())
}

#[tokio::test]
async fn a_cancelled_task_is_undone_when_asked_for() -> anyhow::Result<()> {
    let (database, server) = stage(&[BOOKING]).await?;
    let client = database.client();
    let task_uuid = by_hand::create(client, "booking").await?;
    by_hand::complete(client, "flight", &json!({"seat": "1A"})).await?;
    let task = format!("/v1/tasks/{task_uuid}");
    assert_eq!(
        server.get(&format!("{task}/compensations")).await?.body["items"],
        json!([])
    );
    let refused = server.delete(&format!("{task}?compensate=perhaps")).await?;
    assert_eq!(refused.status, 400);
    let cancelled = server
        .delete(&format!("{task}?compensate=true&reason=ill"))
        .await?;
    assert_eq!(
        (cancelled.status, cancelled.text("state")),
        (200, "steps_in_process"),
        "{cancelled:?}"
    );
    let undone = server.get(&format!("{task}/compensations")).await?;
    let row = &undone.body["items"][0];
    assert_eq!(
        (&row["undoes_name"], &row["ordinal"]),
        (&json!("flight"), &json!(1))
    );
    by_hand::complete(client, "flight_compensation", &Value::Null).await?;
    assert_eq!(server.get(&task).await?.text("state"), "cancelled");
    Ok(())
}

#[tokio::test]
async fn a_child_and_its_parent_name_each_other() -> anyhow::Result<()> {
    let (database, server) = stage(&[APPROVAL, PARENT]).await?;
    let client = database.client();
    let parent = by_hand::create(client, "parent").await?.to_string();
    by_hand::maintain(client).await?;
    let steps = server
        .get(&format!("/v1/tasks/{parent}/workflow_steps"))
        .await?;
    let step = &steps.body["items"][0];
    let child = step["child_task_uuid"].as_str().unwrap_or_default();
    let shown = server.get(&format!("/v1/tasks/{child}")).await?;
    assert_eq!(shown.status, 200, "{step}");
    assert_eq!(
        (
            &shown.body["parent_task_uuid"],
            &shown.body["parent_step_uuid"]
        ),
        (&json!(parent), &step["step_uuid"])
    );
    let graph = server.get(&format!("/v1/tasks/{parent}/graph")).await?;
    assert_eq!(graph.body["items"][0]["child_task_uuid"], child);
    Ok(())
}
