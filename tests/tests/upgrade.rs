//! Databases of released versions: the library of today runs on them, and updated they are like fresh ones.

use sqlx::Executor;
use tasker_tests::TestDatabase;
use tasker_tests::catalogue::{catalogue, differences, functions, statements_to_reach};
use tasker_tests::mix::Mix;
use tasker_tests::releases::{NEWEST, database_of, released, upgrade, version};

/// One range of partitions from before the update, one from after.
const MAKE_BEFORE: &str = "select tasker._make_partitions('2030-01-01')";
const MAKE_AFTER: &str = "select tasker._make_partitions('2031-01-01')";

#[tokio::test]
async fn an_upgraded_schema_equals_a_fresh_one() -> anyhow::Result<()> {
    let fresh = TestDatabase::empty().await?;
    let mut fresh = fresh.session().await?;
    fresh.execute("create extension tasker").await?;
    fresh.execute(MAKE_BEFORE).await?;
    fresh.execute(MAKE_AFTER).await?;
    let wanted = catalogue(&mut fresh).await?;
    // It sees something of each kind.
    for (object, about) in [
        ("function tasker.version()", "body"),
        ("function tasker.version()", "membership"),
        ("function tasker.version()", "rights"),
        ("function tasker.version()", "rights by the extension"),
        ("column tasker.claimed_step.handler", "place"),
        ("relation tasker.transitions_seq", "dumped rows"),
        ("table tasker.steps", "comment"),
        ("index tasker.tasks_p20291227_20300103_pkey", "definition"),
    ] {
        let key = (object.to_owned(), about.to_owned());
        assert!(wanted.contains_key(&key), "the catalogue lacks {key:?}");
    }

    for old in released()? {
        let database = database_of(&old).await?;
        let mut session = database.session().await?;
        assert_eq!(version(&mut session).await?, old);
        session.execute(MAKE_BEFORE).await?;
        upgrade(&mut session).await?;
        session.execute(MAKE_AFTER).await?;
        assert_eq!(version(&mut session).await?, NEWEST);
        let found = differences(&wanted, &catalogue(&mut session).await?);
        if !found.is_empty() {
            let list: Vec<_> = found.iter().map(|found| format!("- {found}")).collect();
            let statements = statements_to_reach(
                &functions(&mut fresh).await?,
                &functions(&mut session).await?,
            );
            panic!(
                "after an update from {old}, {} things are not as in a fresh database:\n{}\n\nFor the functions, pg_extension/upgrade-script writes:\n{}",
                found.len(),
                list.join("\n"),
                statements.join("\n")
            );
        }
    }
    Ok(())
}

#[tokio::test]
async fn every_kind_of_difference_is_seen() -> anyhow::Result<()> {
    let database = TestDatabase::new().await?;
    let mut session = database.session().await?;
    session.execute(MAKE_BEFORE).await?;
    let before = catalogue(&mut session).await?;
    let changes = [
        (
            "create function tasker._more() returns integer language sql as 'select 1'",
            "function tasker._more()",
        ),
        (
            "alter function tasker.version() volatile",
            "function tasker.version()",
        ),
        (
            "alter function tasker.version() set enable_seqscan = off",
            "function tasker.version()",
        ),
        (
            "grant execute on function tasker.version() to public",
            "function tasker.version()",
        ),
        (
            "comment on function tasker.version() is 'Else.'",
            "function tasker.version()",
        ),
        (
            "alter extension tasker drop function tasker.version()",
            "function tasker.version()",
        ),
        (
            "alter table tasker.workers add column more integer",
            "column tasker.workers.more",
        ),
        (
            "alter table tasker.workers alter column running drop default",
            "column tasker.workers.running",
        ),
        (
            "alter table tasker.workers alter column handlers set storage external",
            "column tasker.workers.handlers",
        ),
        (
            "alter table tasker.steps_p20291227_20300103 set (fillfactor = 50)",
            "relation tasker.steps_p20291227_20300103",
        ),
        (
            "drop index tasker.finish_requests_answered_idx",
            "index tasker.finish_requests_answered_idx",
        ),
        (
            "alter table tasker.namespaces drop constraint namespace_name_is_a_lower_case_word",
            "constraint namespace_name_is_a_lower_case_word of tasker.namespaces",
        ),
        (
            "alter type tasker.claimed_step add attribute more integer",
            "column tasker.claimed_step.more",
        ),
        (
            "alter type tasker.claimed_step owner to tasker_admin",
            "type tasker.claimed_step",
        ),
        (
            "grant usage on type tasker._edition to tasker_reader",
            "type tasker._edition",
        ),
        (
            "alter sequence tasker.transitions_seq cache 10",
            "relation tasker.transitions_seq",
        ),
        (
            "update pg_extension set extcondition[1] = 'where false' where extname = 'tasker'",
            "relation tasker.namespaces",
        ),
        (
            "alter table tasker.tasks detach partition tasker.tasks_p20291227_20300103",
            "relation tasker.tasks_p20291227_20300103",
        ),
        (
            "create trigger more before insert on tasker.workers for each row execute function suppress_redundant_updates_trigger()",
            "trigger more of tasker.workers",
        ),
        (
            "alter table tasker.workers enable row level security",
            "relation tasker.workers",
        ),
        ("create domain tasker.more as text", "type tasker.more"),
    ];
    for (change, object) in changes {
        session.execute("begin").await?;
        session.execute(change).await?;
        let found = differences(&before, &catalogue(&mut session).await?);
        assert!(
            found.iter().any(|found| found.object.starts_with(object)),
            "{change}: {found:?}"
        );
        session.execute("rollback").await?;
    }
    Ok(())
}

/// A server is given the new library first, and the schema is updated when there is time for it.
#[tokio::test]
async fn the_library_of_today_runs_on_every_released_schema() -> anyhow::Result<()> {
    for old in released()? {
        let database = database_of(&old).await?;
        let mut session = database.session().await?;
        Mix::new(&mut session).await?.run().await?;
        assert_eq!(version(&mut session).await?, old);
    }
    Ok(())
}

#[tokio::test]
async fn what_runs_on_a_fresh_schema_runs_on_an_upgraded_one() -> anyhow::Result<()> {
    let fresh = TestDatabase::new().await?;
    let mut session = fresh.session().await?;
    Mix::new(&mut session).await?.run().await?;
    for old in released()? {
        let database = database_of(&old).await?;
        upgrade(&mut database.session().await?).await?;
        let mut session = database.session().await?;
        Mix::new(&mut session).await?.run().await?;
    }
    Ok(())
}

/// An older library may meet rows that a newer script has given a field more, until its session ends.
#[tokio::test]
async fn rows_with_fields_that_the_library_does_not_know_are_made_all_the_same()
-> anyhow::Result<()> {
    let database = TestDatabase::new().await?;
    let mut session = database.session().await?;
    for name in [
        "_message",
        "_created",
        "_dependency",
        "_visibility",
        "_finished",
    ] {
        let more = format!(
            "alter type tasker.{name} add attribute more text, add attribute and_more bigint"
        );
        session.execute(more.as_str()).await?;
    }
    Mix::new(&mut session).await?.run().await
}

#[tokio::test]
async fn preparing_a_database_updates_an_older_one() -> anyhow::Result<()> {
    for old in released()? {
        let database = database_of(&old).await?;
        for _ in 0..2 {
            tasker_client::init(database.client()).await?;
            assert_eq!(database.client().version().await?, NEWEST);
        }
        let mut session = database.session().await?;
        Mix::new(&mut session).await?.run().await?;
    }
    Ok(())
}
