//! Grants of namespaces across sessions: who can't turn the check off, when a revoke counts, what the feed of events leaves out. Rows are committed here.
//! What grants mean inside a transaction is in `sql_namespace_grants`.

use std::str::FromStr;

use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection, Executor, PgConnection};
use tasker_tests::scenario::refusal;
use tasker_tests::{OwnCluster, TestDatabase, bin_dir};

const CREATE: &str = "select tasker.create_task('one', 'mine')";

fn template(namespace: &str) -> String {
    format!(
        "{{name: one, namespace_name: {namespace}, version: 1.0.0, steps: [{{name: a, handler: {{callable: t.a}}}}]}}"
    )
}

/// A database in which namespaces are checked in every session, with a role of its own that is a client and a worker.
async fn checked_database() -> anyhow::Result<(TestDatabase, String, PgConnection)> {
    let database = TestDatabase::new().await?;
    let role = format!("tenant_of_{}", database.name());
    let mut admin = database.session().await?;
    admin
        .execute(sqlx::raw_sql(&format!(
            "create role {role}; grant tasker_client, tasker_worker to {role};
             alter database {} set tasker.check_namespaces = on",
            database.name()
        )))
        .await?;
    sqlx::query("select tasker.register_template($1::text)")
        .bind(template("mine"))
        .execute(&mut admin)
        .await?;
    Ok((database, role, admin))
}

async fn forget(mut admin: PgConnection, role: &str) -> anyhow::Result<()> {
    admin
        .execute(sqlx::raw_sql(&format!("drop role {role}")))
        .await?;
    Ok(())
}

#[tokio::test]
async fn no_session_of_the_role_turns_the_check_off_also_before_the_library_is_there()
-> anyhow::Result<()> {
    let (database, role, mut admin) = checked_database().await?;
    admin
        .execute(sqlx::raw_sql(&format!("alter role {role} login")))
        .await?;
    let login = PgConnectOptions::from_str(database.url())?.username(&role);
    let claims = [
        ("tasker.check_namespaces", "off"),
        ("tasker.acting_for", "tasker_admin"),
    ];
    for (name, value) in claims {
        let statements = [
            format!("set {name} = '{value}'"),
            format!("select set_config('{name}', '{value}', false)"),
            format!("reset {name}; reset all"),
            format!("alter role current_user set {name} = '{value}'"),
        ];
        for statement in &statements {
            for is_loaded in [false, true] {
                let mut session = PgConnection::connect_with(&login).await?;
                if is_loaded {
                    session.execute("select tasker.health()").await?;
                }
                // Refused now, or with a warning when the library is loaded.
                let _ = session.execute(sqlx::raw_sql(statement)).await;
                is_still_refused(session, &role, statement).await?;
            }
        }
        let shouted = name.to_uppercase();
        let hyphened = name.replace('_', "-");
        let slashed = name.replace('c', "\\c");
        for name in [name, &shouted, &hyphened, &slashed] {
            let options = login.clone().options([(name, value)]);
            let session = PgConnection::connect_with(&options).await?;
            is_still_refused(session, &role, "an option of the connection").await?;
        }
    }
    // What a role has set for itself counts from its next session on.
    let session = PgConnection::connect_with(&login).await?;
    is_still_refused(session, &role, "a later session").await?;
    forget(admin, &role).await
}

async fn is_still_refused(
    mut session: PgConnection,
    role: &str,
    after: &str,
) -> anyhow::Result<()> {
    let Err(error) = session.execute(CREATE).await else {
        anyhow::bail!("{after}: let through");
    };
    let refused = refusal(&error)?;
    assert_eq!(refused.code, "42501", "{after}");
    assert!(
        refused
            .message
            .starts_with(&format!("role {role} lacks the privilege create")),
        "{after}: {}",
        refused.message
    );
    Ok(session.close().await?)
}

#[tokio::test]
async fn a_revoke_counts_from_the_next_transaction_of_a_session_on() -> anyhow::Result<()> {
    let (database, role, mut admin) = checked_database().await?;
    let mut session = database.session().await?;
    session
        .execute(sqlx::raw_sql(&format!("set session authorization {role}")))
        .await?;
    let code = async |session: &mut PgConnection| match session.execute(CREATE).await {
        Ok(_) => Ok("-".to_owned()),
        Err(error) => refusal(&error).map(|refusal| refusal.code),
    };
    for _ in 0..3 {
        assert_eq!(code(&mut session).await?, "42501");
        let grant = format!("select tasker.grant_namespace('{role}', 'mine', 'create')");
        admin.execute(grant.as_str()).await?;
        assert_eq!(code(&mut session).await?, "-");
        assert_eq!(code(&mut session).await?, "-");
        let revoke = format!("select tasker.revoke_namespace('{role}', 'mine')");
        admin.execute(revoke.as_str()).await?;
    }
    forget(admin, &role).await?;
    let mut sql = database.session().await?;
    let violations: i64 = sqlx::query_scalar("select count(*) from tasker.verify()")
        .fetch_one(&mut sql)
        .await?;
    assert_eq!(violations, 0);
    Ok(())
}

/// Events are listed when no transaction that could add an earlier one is under way: nobody else writes in a cluster of its own.
#[tokio::test]
async fn the_feed_of_events_leaves_out_closed_namespaces() -> anyhow::Result<()> {
    let own = OwnCluster::start().await?;
    let mut session = PgConnection::connect(&own.url()).await?;
    for namespace in ["mine", "theirs"] {
        sqlx::query("select tasker.register_template($1::text)")
            .bind(template(namespace))
            .execute(&mut session)
            .await?;
    }
    session
        .execute(sqlx::raw_sql(
            "select tasker.create_task('one', case n % 3 when 0 then 'mine' else 'theirs' end) from generate_series(1, 30) n;
             create role tenant; grant tasker_reader to tenant; select tasker.grant_namespace('tenant', 'mine', 'read')",
        ))
        .await?;
    let count = "select count(*) from tasker.list_events(namespace => 'mine', \"limit\" => 1000)";
    let of_mine: i64 = sqlx::query_scalar(count).fetch_one(&mut session).await?;
    assert_eq!(of_mine % 10, 0);
    session
        .execute(sqlx::raw_sql(
            "set tasker.check_namespaces = on; set session authorization tenant",
        ))
        .await?;
    let mut cursor: Option<String> = None;
    let mut seen = 0;
    loop {
        let page: Vec<(String, String)> = sqlx::query_as(
            "select cursor, namespace from tasker.list_events(after => $1, \"limit\" => 7)",
        )
        .bind(&cursor)
        .fetch_all(&mut session)
        .await?;
        assert!(page.iter().all(|(_, namespace)| namespace == "mine"));
        seen += i64::try_from(page.len())?;
        match page.last() {
            Some((last, _)) => cursor = Some(last.clone()),
            None => break,
        }
    }
    assert_eq!(seen, of_mine);
    let theirs = "select count(*) from tasker.list_events(namespace => 'theirs')";
    assert_eq!(
        sqlx::query_scalar::<_, i64>(theirs)
            .fetch_one(&mut session)
            .await?,
        0
    );
    // A session that serves a caller sees no more, whatever its role may.
    session
        .execute(sqlx::raw_sql(
            "reset session authorization; reset tasker.check_namespaces; select tasker.serve_caller('k', '{mine}')",
        ))
        .await?;
    let all = "select count(*) from tasker.list_events(\"limit\" => 1000)";
    let limited: i64 = sqlx::query_scalar(all).fetch_one(&mut session).await?;
    assert_eq!(limited, of_mine);
    Ok(())
}

#[tokio::test]
async fn where_the_library_is_preloaded_no_connection_of_the_role_names_the_setting()
-> anyhow::Result<()> {
    let own = OwnCluster::start_with(
        bin_dir()?,
        &[
            ("shared_preload_libraries", "tasker"),
            ("tasker.check_namespaces", "on"),
        ],
    )?;
    let url = own.add_database("preloaded").await?;
    let mut admin = PgConnection::connect(&url).await?;
    sqlx::query("select tasker.register_template($1::text)")
        .bind(template("mine"))
        .execute(&mut admin)
        .await?;
    admin
        .execute("create role tenant login in role tasker_client")
        .await?;
    let login = PgConnectOptions::from_str(&url)?.username("tenant");
    for (name, value) in [
        ("tasker.check_namespaces", "off"),
        ("tasker.acting_for", "tasker_admin"),
    ] {
        let options = login.clone().options([(name, value)]);
        let refused = PgConnection::connect_with(&options).await.err();
        assert!(refused.is_some(), "{name}");
        let mut session = PgConnection::connect_with(&login).await?;
        let set = format!("set {name} = '{value}'");
        assert!(session.execute(sqlx::raw_sql(&set)).await.is_err(), "{set}");
        is_still_refused(session, "tenant", &set).await?;
    }
    Ok(())
}
