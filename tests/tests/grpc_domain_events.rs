//! Domain events through gRPC: subscribed to, published by a step, taken, set aside and listed.

use serde_json::{Value, json};
use tasker_tests::by_hand::{complete, create, register};
use tasker_tests::grpc::code_of;
use tasker_tests::{Server, TestDatabase};
use tonic::Code;

const ONE: &str = "{name: one, version: 1.0.0, steps: [{name: a, handler: {callable: t.a}, publishes_events: [{name: a.done}]}]}";

#[tokio::test]
async fn an_event_is_taken_by_who_subscribed_to_it() -> anyhow::Result<()> {
    let database = TestDatabase::new().await?;
    register(database.client(), &[ONE]).await?;
    let server = Server::start(database.url(), &[]).await?;
    let grpc = server.grpc().await?;
    let service = |method: &str| format!("DomainEventService/{method}");
    let wish = json!({"subscriber": "mailer", "namespaces": ["default"], "patterns": ["a.*"]});
    let made = grpc
        .get(&service("SubscribeDomainEvents"), wish.clone())
        .await?;
    assert_eq!(made["created"], 1);
    let again = grpc.get(&service("SubscribeDomainEvents"), wish).await?;
    assert_eq!(again["created"], 0);

    let task_uuid = create(database.client(), "one").await?;
    let payload: Value = serde_json::from_str("{\"n\": 123456789012345678901234567890}")?;
    complete(database.client(), "a", &payload).await?;
    let claim = json!({"worker_id": "m-1", "subscriber": "mailer", "namespaces": ["default"], "patterns": ["a.*"]});
    let claimed = grpc.get(&service("ClaimDomainEvents"), claim).await?;
    let one = &claimed["items"][0];
    assert_eq!(one["event"]["task_uuid"], json!(task_uuid));
    let kept: Value =
        serde_json::from_str(one["event"]["payload_json"].as_str().unwrap_or_default())?;
    assert_eq!(kept, payload);

    let listed = grpc.get(&service("ListSubscriptions"), json!({})).await?;
    assert_eq!(listed["items"][0]["waiting"], 1);
    let mut delivery = json!({
        "namespace": one["namespace"], "msg_id": one["msg_id"], "delivery": one["delivery"], "status": "eaten"
    });
    let finish = |delivery: &Value| json!({"worker_id": "m-1", "deliveries": [delivery]});
    let refused = grpc
        .refused(&service("FinishDomainEvents"), finish(&delivery))
        .await?;
    assert_eq!(
        (refused.code(), code_of(&refused).as_str()),
        (Code::InvalidArgument, "22023")
    );
    delivery["status"] = json!("done");
    let finished = grpc
        .get(&service("FinishDomainEvents"), finish(&delivery))
        .await?;
    assert_eq!(finished["items"][0]["verdict"], "accepted");

    let published = grpc
        .get(&service("ListDomainEvents"), json!({"name": "a.*"}))
        .await?;
    assert_eq!(published["items"][0]["delivery_mode"], "durable");
    let event = json!({"event_uuid": published["items"][0]["event_uuid"]});
    let sent = grpc.get(&service("RedeliverDomainEvent"), event).await?;
    assert_eq!(sent["redelivered"], 0);
    let unknown = json!({"event_uuid": "01890000-0000-7000-8000-000000000000"});
    let refused = grpc
        .refused(&service("RedeliverDomainEvent"), unknown)
        .await?;
    assert_eq!(
        (refused.code(), code_of(&refused).as_str()),
        (Code::NotFound, "TK004")
    );
    let which = json!({"subscriber": "mailer", "namespace": "default", "pattern": "a.*"});
    let ended = grpc
        .get(&service("UnsubscribeDomainEvents"), which.clone())
        .await?;
    assert_eq!(ended["unsubscribed"], true);
    let ended = grpc.get(&service("UnsubscribeDomainEvents"), which).await?;
    assert_eq!(ended["unsubscribed"], false);
    Ok(())
}
