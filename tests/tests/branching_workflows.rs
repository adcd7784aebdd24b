//! The example workflows that decide, and make steps, while they run: on the real server and worker.

use serde_json::{Value, json};
use tasker_tests::following::{ended, verified};
use tasker_tests::http::answer;
use tasker_tests::{Server, Stage};
use uuid::Uuid;

/// Creates a task by REST and waits until it has ended.
async fn run(
    stage: &Stage,
    server: &Server,
    namespace: &str,
    template: &str,
    context: Value,
) -> anyhow::Result<(Uuid, String)> {
    let body = json!({"template_name": template, "namespace": namespace, "context": context});
    let request = server
        .request(reqwest::Method::POST, "/v1/tasks")
        .header("Content-Type", "application/json")
        .body(body.to_string());
    let created = answer(request).await?;
    assert_eq!(created.status, 201, "{created:?}");
    let task_uuid: Uuid = created.text("task_uuid").parse()?;
    let task = ended(stage.client(), task_uuid).await?;
    Ok((task_uuid, task.state))
}

async fn names(stage: &Stage, task_uuid: Uuid) -> anyhow::Result<Vec<String>> {
    let steps = stage.client().list_steps(task_uuid).await?;
    Ok(steps.into_iter().map(|step| step.name).collect())
}

#[tokio::test]
async fn a_request_is_approved_by_those_whom_its_amount_asks_for() -> anyhow::Result<()> {
    let stage = Stage::new(&[]).await?;
    let server = Server::start(stage.database.url(), &[]).await?;
    for (amount, branches, approved_by) in [
        (json!(999.99), vec!["auto_approve"], json!(["automatic"])),
        (json!(1000), vec!["manager_approval"], json!(["manager"])),
        (
            json!(5000),
            vec!["manager_approval", "finance_review"],
            json!(["finance", "manager"]),
        ),
    ] {
        let context = json!({"amount": amount, "requester": "ada"});
        let (task_uuid, end) = run(
            &stage,
            &server,
            "approvals",
            "conditional_approval",
            context,
        )
        .await?;
        assert_eq!(end, "complete");
        let mut expected = vec!["validate_request", "routing_decision"];
        expected.extend(branches);
        expected.push("finalize_approval");
        assert_eq!(names(&stage, task_uuid).await?, expected);
        let joined = stage.result(task_uuid, "finalize_approval").await?;
        assert_eq!(joined["approved_by"], approved_by);
        let shown = server
            .get(&format!("/v1/tasks/{task_uuid}/workflow_steps"))
            .await?;
        assert_eq!(
            shown.body["items"].as_array().map(Vec::len),
            Some(expected.len()),
            "a branch that wasn't chosen is no step"
        );
    }
    verified(stage.client()).await
}

#[tokio::test]
async fn nobody_is_asked_about_a_withdrawn_request_and_its_task_completes() -> anyhow::Result<()> {
    let stage = Stage::new(&[]).await?;
    let server = Server::start(stage.database.url(), &[]).await?;
    let context = json!({"amount": 9000, "requester": "ada", "withdrawn": true});
    let (task_uuid, end) = run(
        &stage,
        &server,
        "approvals",
        "conditional_approval",
        context,
    )
    .await?;
    assert_eq!(end, "complete");
    assert_eq!(
        names(&stage, task_uuid).await?,
        ["validate_request", "routing_decision"]
    );
    verified(stage.client()).await
}

#[tokio::test]
async fn each_image_has_its_thumbnail_and_the_gallery_has_them_in_order() -> anyhow::Result<()> {
    let stage = Stage::new(&["--concurrency", "4"]).await?;
    let server = Server::start(stage.database.url(), &[]).await?;
    for count in [0_u64, 1, 250] {
        let context = json!({"count": count});
        let (task_uuid, end) = run(&stage, &server, "media", "thumbnail_map", context).await?;
        assert_eq!(end, "complete");
        assert_eq!(
            names(&stage, task_uuid).await?.len() as u64,
            count + 3,
            "the list, the map, its instances, the gallery"
        );
        let thumbnails = stage.result(task_uuid, "make_thumbnail").await?;
        let numbers: Vec<_> = thumbnails
            .as_array()
            .into_iter()
            .flatten()
            .map(|thumbnail| thumbnail["name"].as_str().unwrap_or_default().to_owned())
            .collect();
        let expected: Vec<_> = (1..=count)
            .map(|number| format!("image_{number:05}_thumb"))
            .collect();
        assert_eq!(numbers, expected);
        let gallery = stage.result(task_uuid, "publish_gallery").await?;
        assert_eq!(gallery["count"], count);
    }
    verified(stage.client()).await
}

#[tokio::test]
async fn an_image_that_fails_for_good_fails_its_task_and_its_siblings_go_on() -> anyhow::Result<()>
{
    let stage = Stage::new(&[]).await?;
    let server = Server::start(stage.database.url(), &[]).await?;
    let image = |width: u32| json!({"name": "cat", "width": width, "height": 30});
    let context = json!({"images": [image(40), image(0), image(20)]});
    let (task_uuid, end) = run(&stage, &server, "media", "thumbnail_map", context).await?;
    assert_eq!(end, "error");
    let steps = stage.client().list_steps(task_uuid).await?;
    let instances: Vec<_> = steps
        .iter()
        .filter(|step| step.instance.is_some())
        .map(|step| (step.name.as_str(), step.state.as_str()))
        .collect();
    assert_eq!(
        instances,
        [
            ("make_thumbnail_000001", "complete"),
            ("make_thumbnail_000002", "error"),
            ("make_thumbnail_000003", "complete"),
        ]
    );
    verified(stage.client()).await
}

#[tokio::test]
async fn a_trip_whose_payment_is_declined_is_undone_the_last_booking_first() -> anyhow::Result<()> {
    let stage = Stage::new(&[]).await?;
    let server = Server::start(stage.database.url(), &[]).await?;
    let context = json!({"traveller": "ada", "declined": true});
    let (task_uuid, end) = run(&stage, &server, "example", "trip_booking", context).await?;
    assert_eq!(end, "error");
    let steps = stage.client().list_steps(task_uuid).await?;
    let mut undone = Vec::new();
    for step in steps {
        if let Some(result) = step.result.filter(|_| step.name.ends_with("_compensation")) {
            let result: Value = serde_json::from_str(result.get())?;
            undone.push((step.finished_at, result));
        }
    }
    undone.sort_by_key(|(finished_at, _)| *finished_at);
    let undone: Vec<Value> = undone.into_iter().map(|(_, result)| result).collect();
    assert_eq!(
        undone,
        [
            json!({"cancelled": "hotel for ada"}),
            json!({"cancelled": "flight for ada"})
        ]
    );
    let context = json!({"traveller": "ada"});
    let (_, end) = run(&stage, &server, "example", "trip_booking", context).await?;
    assert_eq!(end, "complete");
    verified(stage.client()).await
}
