//! `tasker-ctl domain-event` and `subscription`: what was published, who subscribes, what is sent again.

use serde_json::{Value, json};
use tasker_client::EventClaim;
use tasker_tests::TestDatabase;
use tasker_tests::command::{Run, ctl};
use tasker_tests::publishing::{shipped, use_up_deliveries};

const NOTHING: &str = "01890000-0000-7000-8000-000000000000";
const SUBSCRIBE: [&str; 7] = [
    "domain-event",
    "subscribe",
    "mailer",
    "order.*",
    "*.shipped",
    "-n",
    "shop",
];

async fn ended(database: &TestDatabase, words: &[&str], code: i32) -> anyhow::Result<Run> {
    let run = ctl(database, words).await?;
    assert_eq!(
        run.code,
        Some(code),
        "{words:?}: {}{}",
        run.stdout,
        run.stderr
    );
    Ok(run)
}

async fn json_of(database: &TestDatabase, words: &[&str]) -> anyhow::Result<Value> {
    ended(database, &[words, &["-o", "json"]].concat(), 0)
        .await?
        .json()
}

#[tokio::test]
async fn events_are_subscribed_to_listed_and_no_longer_subscribed_to() -> anyhow::Result<()> {
    let database = TestDatabase::new().await?;
    for created in [2, 0] {
        assert_eq!(
            json_of(&database, &SUBSCRIBE).await?,
            json!({"subscriber": "mailer", "created": created})
        );
    }
    let task_uuid = shipped(&database, &json!({"tracking": "trk-1"}))
        .await?
        .to_string();
    let listed = ended(&database, &["domain-event", "list", "-n", "shop"], 0).await?;
    assert!(
        listed.stdout.starts_with("PUBLISHED") && listed.stdout.contains("order.shipped"),
        "{}",
        listed.stdout
    );
    let wide = ended(&database, &["domain-event", "list", "-o", "wide"], 0).await?;
    assert!(
        wide.stdout.contains("trk-1") && wide.stdout.contains(&task_uuid),
        "{}",
        wide.stdout
    );
    let named = ["domain-event", "list", "--name", "order.lost"];
    assert_eq!(json_of(&database, &named).await?, json!([]));
    let of_task = ["domain-event", "list", "--task", &task_uuid];
    assert_eq!(
        json_of(&database, &of_task).await?[0]["payload"],
        json!({"tracking": "trk-1"})
    );

    let subscriptions = ended(&database, &["subscription", "list", "-n", "shop"], 0).await?;
    assert!(
        subscriptions.stdout.starts_with("NAMESPACE") && subscriptions.stdout.contains("*.shipped"),
        "{}",
        subscriptions.stdout
    );
    let end = [
        "domain-event",
        "unsubscribe",
        "mailer",
        "order.*",
        "-n",
        "shop",
    ];
    for unsubscribed in [true, false] {
        let answer = json_of(&database, &end).await?;
        assert_eq!(answer["unsubscribed"], unsubscribed);
    }
    let left = json_of(&database, &["subscription", "list"]).await?;
    assert_eq!(left.as_array().map(Vec::len), Some(1));
    Ok(())
}

#[tokio::test]
async fn an_event_that_was_not_taken_is_sent_again() -> anyhow::Result<()> {
    let database = TestDatabase::new().await?;
    ended(&database, &SUBSCRIBE, 0).await?;
    shipped(&database, &json!(1)).await?;
    use_up_deliveries(&database).await?;
    let claim = EventClaim {
        worker_id: "w".to_owned(),
        subscriber: "mailer".to_owned(),
        namespaces: vec!["shop".to_owned()],
        patterns: vec!["order.*".to_owned()],
        max_events: 10,
        lease: std::time::Duration::from_secs(30),
    };
    assert!(
        database
            .client()
            .claim_domain_events(&claim)
            .await?
            .is_empty()
    );
    let listed = ended(&database, &["domain-event", "list"], 0).await?;
    assert!(
        listed.stdout.contains("not taken by 1"),
        "{}",
        listed.stdout
    );
    let events = json_of(&database, &["domain-event", "list"]).await?;
    let event_uuid = events[0]["event_uuid"].as_str().unwrap_or_default();
    for redelivered in [1, 0] {
        assert_eq!(
            json_of(&database, &["domain-event", "redeliver", event_uuid]).await?,
            json!({"event_uuid": event_uuid, "redelivered": redelivered})
        );
    }
    assert_eq!(
        database.client().claim_domain_events(&claim).await?.len(),
        1
    );
    Ok(())
}

#[tokio::test]
async fn what_is_not_there_and_what_cannot_be_is_told_by_the_exit_code() -> anyhow::Result<()> {
    let database = TestDatabase::new().await?;
    for (words, code) in [
        (&["domain-event", "redeliver", NOTHING][..], 3),
        (&["domain-event", "redeliver", "nonsense"], 2),
        (&["domain-event", "list", "--name", "a b"], 5),
        (&["domain-event", "list", "--limit", "0"], 2),
        (
            &["domain-event", "subscribe", "mailer", "a b", "-n", "shop"],
            5,
        ),
        (&["domain-event", "subscribe", "mailer", "order.*"], 2),
        (&["domain-event", "subscribe", "mailer", "-n", "shop"], 2),
    ] {
        ended(&database, words, code).await?;
    }
    Ok(())
}
