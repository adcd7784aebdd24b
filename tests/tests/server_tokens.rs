//! JSON Web Tokens: who signed them, what they say, and keys that change.

use std::time::Duration;

use anyhow::Context;
use reqwest::Method;
use serde_json::json;
use tasker_tests::credentials::{Certificate, KeyServer, TokenPair, token_flags};
use tasker_tests::http::{Answer, answer};
use tasker_tests::releases::{database_of, last_released};
use tasker_tests::{Server, TestDatabase, eventually};

/// Longer than the pause between two reads of the keys.
const WITHIN: Duration = Duration::from_secs(20);

async fn with_token(server: &Server, token: &str) -> anyhow::Result<Answer> {
    let request = server.request(Method::GET, "/v1/tasks");
    answer(request.bearer_auth(token)).await
}

async fn start(database: &TestDatabase, flags: &[&str]) -> anyhow::Result<Server> {
    Server::start(database.url(), &[&token_flags()[..], flags].concat()).await
}

#[tokio::test]
async fn tokens_of_both_algorithms_are_taken_with_their_own_key_only() -> anyhow::Result<()> {
    let database = TestDatabase::new().await?;
    let (elliptic, rsa) = (TokenPair::elliptic("e")?, TokenPair::rsa("r")?);
    let stranger = TokenPair::elliptic("e")?;
    let read = ["--permission", "tasks:list"];
    for (pair, other) in [(&elliptic, &rsa), (&rsa, &elliptic)] {
        let key = pair.public_key.display().to_string();
        let server = start(&database, &["--jwt-public-key", &key]).await?;
        let good = pair.token(&read).await?;
        assert_eq!(with_token(&server, &good).await?.status, 200);
        let lacking = pair.token(&["--permission", "dlq:read"]).await?;
        assert_eq!(with_token(&server, &lacking).await?.status, 403);
        for (wrong, token) in [
            ("of another key", other.token(&read).await?),
            ("of a stranger", stranger.token(&read).await?),
        ] {
            assert_eq!(with_token(&server, &token).await?.status, 401, "{wrong}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn tokens_that_do_not_count_are_refused() -> anyhow::Result<()> {
    let database = TestDatabase::new().await?;
    let pair = TokenPair::elliptic("e")?;
    let key = pair.public_key.display().to_string();
    let server = start(&database, &["--jwt-public-key", &key]).await?;
    let allowed = ["--permission", "*"];
    let good = pair.token(&allowed).await?;
    assert_eq!(with_token(&server, &good).await?.status, 200);
    let with =
        async |flag: &str, value: &str| pair.token(&[&allowed[..], &[flag, value]].concat()).await;
    let (header, rest) = good.split_once('.').context("a token")?;
    let (claims, signature) = rest.split_once('.').context("a token")?;
    let none = "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0";
    let shared_secret = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9";
    let larger = claims.to_owned() + "AA";
    for (wrong, token) in [
        ("another issuer", with("--issuer", "https://other").await?),
        ("another audience", with("--audience", "other").await?),
        ("no algorithm", format!("{none}.{claims}.")),
        (
            "no algorithm, signed",
            format!("{none}.{claims}.{signature}"),
        ),
        (
            "a shared secret",
            format!("{shared_secret}.{claims}.{signature}"),
        ),
        ("no signature", format!("{header}.{claims}.")),
        ("other claims", format!("{header}.{larger}.{signature}")),
        ("a part less", format!("{header}.{claims}")),
        ("a part more", format!("{good}.x")),
        ("nothing", String::new()),
        ("no token", "x".to_owned()),
        ("a key", "tsk_x".to_owned()),
        ("very long", "x".repeat(20_000)),
    ] {
        let refused = with_token(&server, &token).await?;
        assert_eq!(
            (refused.status, refused.code()),
            (401, "credentials_refused"),
            "{wrong}"
        );
    }
    // Clocks may differ by half a minute.
    assert_eq!(
        with_token(&server, &pair.expired_token(5)?).await?.status,
        200
    );
    for (said, token) in [
        ("has expired", pair.expired_token(60)?),
        ("aud", with("--audience", "other").await?),
    ] {
        let refused = with_token(&server, &token).await?;
        let message = refused.body["error"]["message"].as_str();
        assert!(
            message.is_some_and(|message| message.contains(said)),
            "{refused:?}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn namespaces_of_a_token_limit_it() -> anyhow::Result<()> {
    let database = TestDatabase::with_examples().await?;
    let pair = TokenPair::elliptic("e")?;
    let key = pair.public_key.display().to_string();
    let server = start(&database, &["--jwt-public-key", &key]).await?;
    let create = async |options: &[&str]| {
        let token = pair
            .token(&[&["--permission", "tasks:create"], options].concat())
            .await?;
        let request = server.request(Method::POST, "/v1/tasks");
        let body = json!({"template_name": "linear_workflow", "namespace": "example"});
        answer(request.bearer_auth(token).json(&body)).await
    };
    assert_eq!(create(&["--namespace", "other"]).await?.code(), "42501");
    assert_eq!(
        create(&["--namespace", "other", "--namespace", "example"])
            .await?
            .status,
        201
    );
    assert_eq!(create(&[]).await?.status, 201);
    let actor: String = sqlx::query_scalar("select actor from tasker.task_transitions limit 1")
        .fetch_one(database.pool())
        .await?;
    assert!(actor.ends_with(" for token alice"), "{actor}");
    Ok(())
}

/// It couldn't keep a caller to anything.
#[tokio::test]
async fn an_extension_that_knows_no_callers_serves_none() -> anyhow::Result<()> {
    let database = database_of(&last_released()?).await?;
    let pair = TokenPair::elliptic("e")?;
    let key = pair.public_key.display().to_string();
    let server = start(&database, &["--jwt-public-key", &key]).await?;
    let token = pair.token(&["-p", "*", "-n", "shop"]).await?;
    let templates = server.request(Method::GET, "/v1/templates");
    assert_eq!(answer(templates.bearer_auth(token)).await?.status, 503);
    Ok(())
}

#[tokio::test]
async fn keys_that_change_at_their_address_are_followed() -> anyhow::Result<()> {
    let database = TestDatabase::new().await?;
    let (first, second) = (TokenPair::elliptic("first")?, TokenPair::rsa("second")?);
    let keys = KeyServer::start(&[&first]).await?;
    let flags = ["--jwks-url", &keys.url, "--jwks-refresh-seconds", "1"];
    let server = start(&database, &flags).await?;
    let allowed = ["--permission", "*"];
    let (old, new) = (first.token(&allowed).await?, second.token(&allowed).await?);
    assert_eq!(with_token(&server, &old).await?.status, 200);
    assert_eq!(with_token(&server, &new).await?.status, 401);

    keys.show(&[&first, &second])?;
    eventually("the new key counts", WITHIN, async || {
        Ok((with_token(&server, &new).await?.status == 200).then_some(()))
    })
    .await?;
    assert_eq!(with_token(&server, &old).await?.status, 200);

    keys.show(&[&second])?;
    eventually("the old key is forgotten", WITHIN, async || {
        Ok((with_token(&server, &old).await?.status == 401).then_some(()))
    })
    .await?;
    assert_eq!(with_token(&server, &new).await?.status, 200);
    Ok(())
}

#[tokio::test]
async fn keys_are_read_over_https_from_who_is_trusted() -> anyhow::Result<()> {
    let database = TestDatabase::new().await?;
    let pair = TokenPair::elliptic("a")?;
    let certificate = Certificate::new()?;
    let keys = KeyServer::start_tls(&[&pair], &certificate).await?;
    let token = pair.token(&["--permission", "*"]).await?;
    let authority = certificate.file().display().to_string();
    let trusting = start(
        &database,
        &["--jwks-url", &keys.url, "--jwks-ca", &authority],
    )
    .await?;
    assert_eq!(with_token(&trusting, &token).await?.status, 200);
    let strange = start(&database, &["--jwks-url", &keys.url]).await?;
    assert_eq!(with_token(&strange, &token).await?.status, 503);
    Ok(())
}

#[tokio::test]
async fn strangers_do_not_make_the_server_ask_for_keys_again_and_again() -> anyhow::Result<()> {
    let database = TestDatabase::new().await?;
    let (known, stranger) = (TokenPair::elliptic("a")?, TokenPair::elliptic("b")?);
    let keys = KeyServer::start(&[&known]).await?;
    let server = start(&database, &["--jwks-url", &keys.url]).await?;
    let token = stranger.token(&["--permission", "*"]).await?;
    for _ in 0..30 {
        assert_eq!(with_token(&server, &token).await?.status, 401);
    }
    assert!(keys.times_asked() < 10, "{}", keys.times_asked());
    let good = known.token(&["--permission", "*"]).await?;
    assert_eq!(with_token(&server, &good).await?.status, 200);
    Ok(())
}

#[tokio::test]
async fn keys_that_were_read_count_on_while_their_address_is_away() -> anyhow::Result<()> {
    let database = TestDatabase::new().await?;
    let pair = TokenPair::elliptic("a")?;
    let keys = KeyServer::start(&[&pair]).await?;
    let url = keys.url.clone();
    let flags = ["--jwks-url", &url, "--jwks-refresh-seconds", "1"];
    let (server, late) = (
        start(&database, &flags).await?,
        start(&database, &flags).await?,
    );
    let token = pair.token(&["--permission", "*"]).await?;
    assert_eq!(with_token(&server, &token).await?.status, 200);
    drop(keys);
    eventually("the keys were asked for in vain", WITHIN, async || {
        assert_eq!(with_token(&server, &token).await?.status, 200);
        Ok(server.program.log().contains("can't be read").then_some(()))
    })
    .await?;
    let unread = with_token(&late, &token).await?;
    assert_eq!((unread.status, unread.code()), (503, "keys_unavailable"));
    assert!(unread.retry_after.is_some());
    Ok(())
}
