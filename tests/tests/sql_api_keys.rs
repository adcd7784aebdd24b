//! Keys of callers: made once, kept as hashes, checked, listed, revoked.

use serde_json::json;
use tasker_tests::Scenario;

const CREATE: &str =
    "select tasker.create_api_key('k', '{tasks:create,dlq:*}', '{shop}', '2040-01-01 00:00+00')";

#[tokio::test]
async fn a_key_is_shown_once_and_kept_as_its_hash() -> anyhow::Result<()> {
    let mut sql = Scenario::new().await?;
    let key: String = sql.value(CREATE).await?;
    assert!(key.starts_with("tsk_"), "{key}");
    assert_eq!(key.len(), 4 + 43, "{key}");
    assert!(
        key.bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)),
        "{key}"
    );
    let stored = sql
        .row(&format!(
            "select position('{key}' in k::text) as at, key_hash = sha256('{key}') as is_hash from tasker.api_keys k"
        ))
        .await?;
    assert_eq!(stored, json!({"at": 0, "is_hash": true}));
    let other: String = sql
        .value("select tasker.create_api_key('other', '{*}')")
        .await?;
    assert_ne!(key, other);
    Ok(())
}

#[tokio::test]
async fn a_check_says_whose_a_key_is_by_the_key_and_by_its_hash() -> anyhow::Result<()> {
    let mut sql = Scenario::new().await?;
    let key: String = sql.value(CREATE).await?;
    let columns =
        "name, permissions, namespaces, expires_at = '2040-01-01 00:00+00' as expires, problem";
    let expected = json!({"name": "k", "permissions": ["tasks:create", "dlq:*"], "namespaces": ["shop"], "expires": true, "problem": null});
    for shown in [
        format!("'{key}'"),
        format!("encode(sha256('{key}'), 'hex')"),
    ] {
        let checked = sql
            .row(&format!(
                "select {columns} from tasker.check_api_key({shown})"
            ))
            .await?;
        assert_eq!(checked, expected, "{shown}");
    }
    for unknown in [
        "'tsk_x'",
        "''",
        "null",
        &format!("'{key} '"),
        &format!("upper('{key}')"),
        "repeat('0', 64)",
    ] {
        let found = sql
            .rows(&format!("select * from tasker.check_api_key({unknown})"))
            .await?;
        assert!(found.is_empty(), "{unknown}");
    }
    Ok(())
}

#[tokio::test]
async fn a_key_counts_until_it_expires_or_is_revoked() -> anyhow::Result<()> {
    let mut sql = Scenario::new().await?;
    sql.clock(0).await?;
    let key: String = sql
        .value("select tasker.create_api_key('k', '{*}', expires_at => tasker._now() + interval '1 minute')")
        .await?;
    let problem = format!("select problem from tasker.check_api_key('{key}')");
    assert_eq!(sql.value::<Option<String>>(&problem).await?, None);
    sql.clock(59_999).await?;
    assert_eq!(sql.value::<Option<String>>(&problem).await?, None);
    sql.clock(60_000).await?;
    assert_eq!(
        sql.value::<Option<String>>(&problem).await?.as_deref(),
        Some("expired")
    );
    let revoke = "select tasker.revoke_api_key('k')";
    assert!(sql.value::<bool>(revoke).await?);
    assert!(!sql.value::<bool>(revoke).await?);
    assert_eq!(
        sql.value::<Option<String>>(&problem).await?.as_deref(),
        Some("revoked")
    );
    let listed = sql
        .row("select name, problem, namespaces, revoked_by = current_user as by_me, created_at < revoked_at as later from tasker.list_api_keys()")
        .await?;
    assert_eq!(
        listed,
        json!({"name": "k", "problem": "revoked", "namespaces": null, "by_me": true, "later": true})
    );
    Ok(())
}

#[tokio::test]
async fn when_a_key_was_used_is_noted_once_an_hour() -> anyhow::Result<()> {
    let mut sql = Scenario::new().await?;
    sql.clock(0).await?;
    let key: String = sql
        .value("select tasker.create_api_key('k', '{*}')")
        .await?;
    let check = format!("select count(*) from tasker.check_api_key('{key}')");
    let used =
        "select extract(epoch from used_at - created_at)::integer from tasker.list_api_keys()";
    assert_eq!(sql.value::<Option<i32>>(used).await?, None);
    for (milliseconds, noted) in [(1_000, 1), (3_600_000, 1), (3_602_000, 3602)] {
        sql.clock(milliseconds).await?;
        sql.value::<i64>(&check).await?;
        assert_eq!(sql.value::<Option<i32>>(used).await?, Some(noted));
    }
    Ok(())
}

#[tokio::test]
async fn a_key_that_could_not_be_used_is_not_made() -> anyhow::Result<()> {
    let mut sql = Scenario::new().await?;
    for (arguments, code) in [
        ("null, '{*}'", "22023"),
        ("'', '{*}'", "22023"),
        ("'a b', '{*}'", "22023"),
        ("repeat('a', 65), '{*}'", "22023"),
        ("'k', null", "22023"),
        ("'k', '{}'", "22023"),
        ("'k', '{tasks}'", "22023"),
        ("'k', '{tasks:create,NULL}'", "22023"),
        ("'k', '{*}', '{}'", "22023"),
        ("'k', '{*}', '{Shop}'", "22023"),
        ("'k', '{*}', '{NULL}'", "22023"),
        ("'k', '{*}', array_fill('a'::text, array[101])", "22023"),
        ("'k', '{*}', expires_at => tasker._now()", "22023"),
    ] {
        let refused = sql
            .refused(&format!("select tasker.create_api_key({arguments})"))
            .await?;
        assert_eq!(refused.code, code, "{arguments}: {}", refused.message);
        assert!(!refused.hint.is_empty(), "{arguments}");
    }
    sql.run(CREATE).await?;
    assert_eq!(sql.refused(CREATE).await?.code, "23505");
    sql.run("select tasker.revoke_api_key('k')").await?;
    assert_eq!(sql.refused(CREATE).await?.code, "23505");
    for name in ["'nothing'", "null"] {
        let refused = sql
            .refused(&format!("select tasker.revoke_api_key({name})"))
            .await?;
        assert_eq!(refused.code, "TK004");
    }
    Ok(())
}
