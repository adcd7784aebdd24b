//! `tasker-ctl auth`: keys and tokens.

use serde_json::json;
use tasker_tests::TestDatabase;
use tasker_tests::command::{Run, ctl, ctl_on};
use tasker_tests::credentials::{AUDIENCE, ISSUER, TokenPair};

#[tokio::test]
async fn a_key_is_made_listed_and_revoked() -> anyhow::Result<()> {
    let database = TestDatabase::new().await?;
    let create = [
        "auth",
        "key",
        "create",
        "billing",
        "-p",
        "tasks:create",
        "-p",
        "dlq:*",
        "-n",
        "shop",
    ];
    let made = ctl(&database, &create).await?;
    assert_eq!(made.code, Some(0), "{}", made.stderr);
    let key = made.stdout.trim();
    assert!(key.starts_with("tsk_"), "{key}");
    let checked = database.client().check_api_key(key).await?;
    assert_eq!(checked.map(|key| key.name).as_deref(), Some("billing"));
    let listed = ctl(&database, &["auth", "key", "list"]).await?.stdout;
    for part in ["billing", "good", "tasks:create, dlq:*", "shop"] {
        assert!(listed.contains(part), "{part} is not in:\n{listed}");
    }
    assert!(!listed.contains(key));

    let again = ctl(&database, &create).await?;
    assert_eq!(again.code, Some(4), "{}", again.stderr);
    let revoke = ["auth", "key", "revoke", "billing", "-o", "json"];
    for expected in [true, false] {
        let revoked = ctl(&database, &revoke).await?.json()?;
        assert_eq!(revoked, json!({"name": "billing", "revoked": expected}));
    }
    let listed = ctl(&database, &["auth", "key", "list", "-o", "json"]).await?;
    assert_eq!(listed.json()?[0]["problem"], "revoked");
    let nothing = ctl(&database, &["auth", "key", "revoke", "nothing"]).await?;
    assert_eq!(nothing.code, Some(3), "{}", nothing.stderr);
    Ok(())
}

#[tokio::test]
async fn a_permission_that_nothing_asks_for_is_refused_with_the_one_that_may_be_meant()
-> anyhow::Result<()> {
    let database = TestDatabase::new().await?;
    let run = ctl(
        &database,
        &["auth", "key", "create", "k", "-p", "task:create"],
    )
    .await?;
    assert_eq!(run.code, Some(5));
    assert!(
        run.stderr.contains("did you mean \"tasks:create\"?"),
        "{}",
        run.stderr
    );
    assert!(database.client().list_api_keys().await?.is_empty());
    Ok(())
}

async fn check(pair: &TokenPair, token: &str, audience: &str) -> anyhow::Result<Run> {
    let key = pair.public_key.display().to_string();
    let flags = [
        "--public-key",
        &key,
        "--issuer",
        ISSUER,
        "--audience",
        audience,
        "-o",
        "json",
    ];
    ctl_on(
        "postgres://nowhere",
        &[&["auth", "token", "check", token], &flags[..]].concat(),
    )
    .await
}

#[tokio::test]
async fn a_token_is_signed_and_shown_as_a_server_reads_it() -> anyhow::Result<()> {
    for pair in [TokenPair::elliptic("e")?, TokenPair::rsa("r")?] {
        let token = pair
            .token(&["-p", "tasks:*", "-n", "shop", "--lifetime-seconds", "60"])
            .await?;
        let shown = check(&pair, &token, AUDIENCE).await?;
        assert_eq!(shown.code, Some(0), "{}", shown.stderr);
        let claims = shown.json()?;
        assert_eq!(
            (
                &claims["subject"],
                &claims["permissions"],
                &claims["namespaces"]
            ),
            (&json!("alice"), &json!(["tasks:*"]), &json!(["shop"]))
        );
        let refused = check(&pair, &token, "other").await?;
        assert_eq!(refused.code, Some(5));
        assert!(refused.stderr.contains("aud"), "{}", refused.stderr);

        let key = pair.public_key.display().to_string();
        let jwks = [
            "auth",
            "token",
            "jwks",
            "--public-key",
            &key,
            "--key-id",
            &pair.name,
        ];
        let set = ctl_on("postgres://nowhere", &jwks).await?.json()?;
        assert_eq!(set, pair.jwks()?);
        assert_eq!(set["keys"][0]["kid"], pair.name.as_str());
        assert!(set["keys"][0]["d"].is_null());
    }
    Ok(())
}

#[tokio::test]
async fn files_that_are_no_keys_are_refused() -> anyhow::Result<()> {
    let pair = TokenPair::elliptic("e")?;
    let public = pair.public_key.display().to_string();
    let sign = [
        "auth",
        "token",
        "create",
        "--subject",
        "a",
        "-p",
        "*",
        "--issuer",
        "i",
        "--audience",
        "a",
    ];
    for (file, code) in [(public.as_str(), 5), ("/nowhere.pem", 1)] {
        let run = ctl_on(
            "postgres://nowhere",
            &[&sign[..], &["--private-key", file]].concat(),
        )
        .await?;
        assert_eq!(run.code, Some(code), "{file}: {}", run.stderr);
    }
    Ok(())
}
