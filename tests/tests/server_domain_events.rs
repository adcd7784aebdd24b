//! `/v1/domain-events`: what was published, who subscribes to it, and deliveries that are claimed and finished.

use reqwest::Method;
use serde_json::{Value, json};
use tasker_client::DomainEventFilter;
use tasker_tests::credentials::api_key;
use tasker_tests::http::{Answer, answer};
use tasker_tests::publishing::{shipped, use_up_deliveries};
use tasker_tests::{Server, TestDatabase};

const NOTHING: &str = "01890000-0000-7000-8000-000000000000";
const SUBSCRIPTIONS: &str = "/v1/domain-events/subscriptions";

async fn stage() -> anyhow::Result<(TestDatabase, Server)> {
    let database = TestDatabase::new().await?;
    let server = Server::start(database.url(), &["--no-maintenance"]).await?;
    Ok((database, server))
}

fn assert_refused(answer: &Answer, status: u16, code: &str) {
    assert_eq!((answer.status, answer.code()), (status, code), "{answer:?}");
}

fn items(answer: &Answer) -> Vec<Value> {
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.body["items"].as_array().cloned().unwrap_or_default()
}

fn mailer() -> Value {
    json!({"subscriber": "mailer", "namespaces": ["shop"], "patterns": ["order.*", "*.shipped"]})
}

fn claim() -> Value {
    json!({"worker_id": "w", "subscriber": "mailer", "namespaces": ["shop"], "patterns": ["order.*"]})
}

#[tokio::test]
async fn published_events_are_listed_in_pages_and_by_what_they_are() -> anyhow::Result<()> {
    let (database, server) = stage().await?;
    let mut tasks = Vec::new();
    for number in 0..3 {
        tasks.push(
            shipped(&database, &json!({"number": number}))
                .await?
                .to_string(),
        );
    }
    let mut payloads = Vec::new();
    let mut path = Some("/v1/domain-events?namespace=shop&limit=2".to_owned());
    while let Some(next) = path {
        let page = server.get(&next).await?;
        payloads.extend(items(&page).iter().map(|event| event["payload"].clone()));
        path = page.body["next"].as_str().map(str::to_owned);
    }
    assert_eq!(
        payloads,
        [2, 1, 0].map(|number| json!({"number": number})),
        "newest first, each once"
    );
    for (query, count) in [
        (format!("task_uuid={}", tasks[1]), 1),
        ("name=order.*".to_owned(), 3),
        ("name=order.lost".to_owned(), 0),
        ("namespace=elsewhere".to_owned(), 0),
    ] {
        let listed = server.get(&format!("/v1/domain-events?{query}")).await?;
        assert_eq!(items(&listed).len(), count, "{query}");
    }
    for query in [
        "limit=0",
        "limit=501",
        "name=a%20b",
        "task_uuid=x",
        "colour=red",
    ] {
        let refused = server.get(&format!("/v1/domain-events?{query}")).await?;
        assert_eq!(refused.status, 400, "{query}: {refused:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_subscription_is_made_once_listed_and_ended() -> anyhow::Result<()> {
    let (database, server) = stage().await?;
    for (status, created) in [(201, 2), (200, 0)] {
        let subscribed = server.post(SUBSCRIPTIONS, &mailer()).await?;
        assert_eq!(
            (subscribed.status, subscribed.body),
            (status, json!({"created": created}))
        );
    }
    shipped(&database, &json!(1)).await?;
    let listed = items(
        &server
            .get(&format!("{SUBSCRIPTIONS}?namespace=shop"))
            .await?,
    );
    let told: Vec<Value> = listed
        .iter()
        .map(|one| json!([one["subscriber"], one["pattern"], one["waiting"]]))
        .collect();
    assert_eq!(
        told,
        [
            json!(["mailer", "*.shipped", 1]),
            json!(["mailer", "order.*", 1])
        ]
    );
    let elsewhere = server
        .get(&format!("{SUBSCRIPTIONS}?namespace=elsewhere"))
        .await?;
    assert_eq!(items(&elsewhere), [] as [Value; 0]);

    let one = format!("{SUBSCRIPTIONS}/shop/mailer/order.*");
    for unsubscribed in [true, false] {
        assert_eq!(
            server.delete(&one).await?.body,
            json!({"namespace": "shop", "subscriber": "mailer", "pattern": "order.*", "unsubscribed": unsubscribed})
        );
    }
    assert_eq!(items(&server.get(SUBSCRIPTIONS).await?).len(), 1);
    Ok(())
}

#[tokio::test]
async fn an_event_is_claimed_failed_and_done() -> anyhow::Result<()> {
    let (database, server) = stage().await?;
    server.post(SUBSCRIPTIONS, &mailer()).await?;
    let task_uuid = shipped(&database, &json!({"number": 1})).await?;
    let claimed = items(&server.post("/v1/domain-events/claim", &claim()).await?);
    assert_eq!(claimed.len(), 1);
    let [event] = &claimed[..] else {
        unreachable!()
    };
    assert_eq!(
        (
            &event["event"]["task_uuid"],
            &event["event"]["payload"],
            &event["delivery"],
            &event["pattern"]
        ),
        (
            &json!(task_uuid),
            &json!({"number": 1}),
            &json!(1),
            &json!("order.*")
        )
    );
    let again = server.post("/v1/domain-events/claim", &claim()).await?;
    assert_eq!(items(&again), [] as [Value; 0]);

    let finish = |delivery: &Value, status: &str| json!({"worker_id": "w", "deliveries": [{"namespace": "shop", "msg_id": event["msg_id"], "delivery": delivery, "status": status}]});
    for (delivery, status, verdict) in [
        (&event["delivery"], "release", "accepted"),
        (&json!(7), "done", "lost"),
    ] {
        let finished = server
            .post("/v1/domain-events/finish", &finish(delivery, status))
            .await?;
        assert_eq!(items(&finished)[0]["verdict"], verdict, "{finished:?}");
    }
    let second = items(&server.post("/v1/domain-events/claim", &claim()).await?);
    assert_eq!(
        second[0]["delivery"], 2,
        "what was given back comes at once"
    );
    let done = finish(&second[0]["delivery"], "done");
    let done = server.post("/v1/domain-events/finish", &done).await?;
    assert_eq!(items(&done)[0]["verdict"], "accepted");
    Ok(())
}

#[tokio::test]
async fn an_event_that_was_not_taken_is_sent_again() -> anyhow::Result<()> {
    let (database, server) = stage().await?;
    server.post(SUBSCRIPTIONS, &mailer()).await?;
    shipped(&database, &json!(1)).await?;
    use_up_deliveries(&database).await?;
    let nothing_left = server.post("/v1/domain-events/claim", &claim()).await?;
    assert_eq!(items(&nothing_left), [] as [Value; 0]);
    let event = items(&server.get("/v1/domain-events").await?).remove(0);
    assert_eq!(
        (&event["set_aside"][0]["pattern"], &event["subscriptions"]),
        (&json!("order.*"), &json!(2)),
        "{event}"
    );
    let event_uuid = event["event_uuid"].as_str().unwrap_or_default();
    let path = format!("/v1/domain-events/{event_uuid}/redeliver");
    for redelivered in [1, 0] {
        let sent = answer(server.request(Method::POST, &path)).await?;
        assert_eq!(
            (sent.status, sent.body),
            (
                200,
                json!({"event_uuid": event_uuid, "redelivered": redelivered})
            )
        );
    }
    let claimed = items(&server.post("/v1/domain-events/claim", &claim()).await?);
    assert_eq!(claimed[0]["event"]["event_uuid"], event_uuid);
    let nothing = format!("/v1/domain-events/{NOTHING}/redeliver");
    assert_refused(
        &answer(server.request(Method::POST, &nothing)).await?,
        404,
        "TK004",
    );
    let nonsense = answer(server.request(Method::POST, "/v1/domain-events/x/redeliver"));
    assert_refused(&nonsense.await?, 400, "22P02");
    Ok(())
}

#[tokio::test]
async fn what_cannot_be_subscribed_to_or_finished_is_refused() -> anyhow::Result<()> {
    let (_database, server) = stage().await?;
    let finish = json!({"worker_id": "w", "deliveries": [{"namespace": "shop", "msg_id": 1, "delivery": 1, "status": "done"}]});
    for (path, body, field, value, status) in [
        (
            SUBSCRIPTIONS,
            mailer(),
            "subscriber",
            json!("two words"),
            400,
        ),
        (SUBSCRIPTIONS, mailer(), "patterns", json!(["a b"]), 400),
        (SUBSCRIPTIONS, mailer(), "namespaces", json!(["Shop"]), 400),
        (SUBSCRIPTIONS, mailer(), "namespaces", json!("shop"), 400),
        (SUBSCRIPTIONS, mailer(), "colour", json!("red"), 400),
        (
            "/v1/domain-events/claim",
            claim(),
            "worker_id",
            json!(""),
            400,
        ),
        (
            "/v1/domain-events/claim",
            claim(),
            "lease_seconds",
            json!(0),
            400,
        ),
        (
            "/v1/domain-events/claim",
            claim(),
            "lease_seconds",
            json!(86_401),
            400,
        ),
        (
            "/v1/domain-events/claim",
            claim(),
            "max_events",
            json!(-1),
            400,
        ),
        (
            "/v1/domain-events/claim",
            claim(),
            "max_events",
            json!(2_000_000_000),
            422,
        ),
        (
            "/v1/domain-events/finish",
            finish.clone(),
            "deliveries",
            json!([[1]]),
            400,
        ),
        (
            "/v1/domain-events/finish",
            finish.clone(),
            "deliveries",
            json!([{"namespace": "shop"}]),
            400,
        ),
        (
            "/v1/domain-events/finish",
            finish,
            "deliveries",
            json!([{"namespace": "shop", "msg_id": -1, "delivery": 1, "status": "done"}]),
            400,
        ),
    ] {
        let mut wrong = body;
        wrong[field] = value;
        let refused = server.post(path, &wrong).await?;
        assert_eq!(refused.status, status, "{path} {wrong}: {refused:?}");
    }
    assert_eq!(items(&server.get(SUBSCRIPTIONS).await?), [] as [Value; 0]);
    Ok(())
}

#[tokio::test]
async fn a_key_reaches_events_of_its_namespaces_only() -> anyhow::Result<()> {
    let database = TestDatabase::new().await?;
    let server = Server::start(database.url(), &["--authentication", "--no-maintenance"]).await?;
    shipped(&database, &json!(1)).await?;
    let key = api_key(&database, "farm", &["domain_events:*"], Some(&["farm"])).await?;
    let ask = async |method: Method, path: &str, body: Option<Value>| {
        let mut request = server.request(method, path).header("x-api-key", &key);
        if let Some(body) = body {
            request = request.json(&body);
        }
        answer(request).await
    };
    let listed = ask(Method::GET, "/v1/domain-events", None).await?;
    assert_eq!(items(&listed), [] as [Value; 0]);
    let mut of_farm = mailer();
    of_farm["namespaces"] = json!(["farm"]);
    let own = ask(Method::POST, SUBSCRIPTIONS, Some(of_farm)).await?;
    assert_eq!(own.status, 201, "{own:?}");
    for (path, body) in [
        (SUBSCRIPTIONS, mailer()),
        ("/v1/domain-events/claim", claim()),
    ] {
        assert_refused(&ask(Method::POST, path, Some(body)).await?, 403, "42501");
    }
    let event_uuid = database
        .client()
        .list_domain_events(&DomainEventFilter::default())
        .await?[0]
        .event_uuid;
    let path = format!("/v1/domain-events/{event_uuid}/redeliver");
    assert_refused(&ask(Method::POST, &path, None).await?, 404, "TK004");
    let path = format!("{SUBSCRIPTIONS}/shop/mailer/order.*");
    assert_refused(&ask(Method::DELETE, &path, None).await?, 403, "42501");
    Ok(())
}
