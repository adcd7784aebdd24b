//! The scripts of released versions are frozen, and the one to the version under development can be completed by a command.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::process::Command;

use anyhow::{Context, ensure};
use tasker_tests::catalogue::{functions, statements_to_reach};
use tasker_tests::releases::{NEWEST, database_of, last_released, released, scripts};
use tasker_tests::{TestDatabase, bin_dir};

/// Below it is what pg_extension/upgrade-script writes.
const MARK: &str =
    "-- The functions, as pg_extension/upgrade-script writes them. What is below is not edited.";

/// The upgrade script to the version under development: it may still change.
fn open_script() -> anyhow::Result<String> {
    Ok(format!("tasker--{}--{NEWEST}.sql", last_released()?))
}

/// The names of all scripts that are kept.
fn names() -> anyhow::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(scripts()?)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "sql") {
            names.extend(
                path.file_name()
                    .map(|name| name.to_string_lossy().into_owned()),
            );
        }
    }
    names.sort();
    Ok(names)
}

#[test]
fn every_released_script_is_listed_and_none_has_changed() -> anyhow::Result<()> {
    let list = std::fs::read_to_string(scripts()?.join("frozen.sha256"))?;
    let mut listed: Vec<&str> = list
        .lines()
        .filter_map(|line| line.split_whitespace().nth(1))
        .collect();
    listed.sort_unstable();
    let open = open_script()?;
    let mut expected = names()?;
    expected.retain(|name| *name != open);
    assert_eq!(
        listed, expected,
        "frozen.sha256 lists every script but the one to the version under development"
    );
    let checked = Command::new("sha256sum")
        .args(["--check", "--quiet", "--strict", "frozen.sha256"])
        .current_dir(scripts()?)
        .output()
        .context("can't run sha256sum")?;
    ensure!(
        checked.status.success(),
        "a released script is frozen, it can't change any more: {}",
        String::from_utf8_lossy(&checked.stdout)
    );
    Ok(())
}

#[test]
fn a_script_leads_from_each_released_version_to_the_next() -> anyhow::Result<()> {
    let mut versions = released()?;
    versions.push(NEWEST.to_owned());
    let mut expected: Vec<String> = versions
        .windows(2)
        .map(|pair| format!("tasker--{}--{}.sql", pair[0], pair[1]))
        .collect();
    expected.extend(
        released()?
            .iter()
            .map(|version| format!("tasker--{version}.sql")),
    );
    expected.sort();
    assert_eq!(names()?, expected);
    Ok(())
}

/// Else the plans and the templates that sessions keep would be those of the schema before.
#[test]
fn every_upgrade_script_makes_an_edition_of_its_own() -> anyhow::Result<()> {
    for name in names()?
        .iter()
        .filter(|name| name.matches("--").count() == 2)
    {
        let text = std::fs::read_to_string(scripts()?.join(name))?;
        assert!(
            text.contains("create type tasker._edition as ();"),
            "{name}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn what_is_installed_is_what_is_kept() -> anyhow::Result<()> {
    let output = Command::new(bin_dir()?.join("pg_config"))
        .arg("--sharedir")
        .output()?;
    let share = String::from_utf8(output.stdout)?;
    for name in names()? {
        let installed = std::path::Path::new(share.trim())
            .join("extension")
            .join(&name);
        let installed = std::fs::read_to_string(&installed).with_context(|| {
            format!(
                "{} isn't there: run pg_extension/install",
                installed.display()
            )
        })?;
        assert!(
            installed == std::fs::read_to_string(scripts()?.join(&name))?,
            "another {name} is installed: run pg_extension/install"
        );
    }
    Ok(())
}

#[tokio::test]
async fn statements_for_functions_turn_one_set_of_them_into_another() -> anyhow::Result<()> {
    let wanted = TestDatabase::new().await?;
    let found = TestDatabase::new().await?;
    sqlx::raw_sql(
        "create or replace function tasker.version() returns text language sql volatile set search_path = pg_catalog, pg_temp as $$ select 'it''s old' $$; \
         comment on function tasker.version() is 'It''s old.'; \
         grant execute on function tasker.version() to public; revoke execute on function tasker.version() from tasker_worker; \
         alter extension tasker drop function tasker._drawn_seq(); drop function tasker._drawn_seq(); \
         create function tasker._drawn_seq() returns text language sql as $$ select 'of another type' $$; \
         create function tasker._gone(a integer) returns text language sql as $$ select 'gone' $$; \
         alter function tasker.get_task(uuid) reset enable_seqscan",
    )
    .execute(found.pool())
    .await?;
    let wanted = functions(&mut wanted.session().await?).await?;
    let mut session = found.session().await?;
    let statements = statements_to_reach(&wanted, &functions(&mut session).await?);
    assert_eq!(statements.len(), 5, "{statements:#?}");
    for statement in &statements {
        let statement = statement.replace("MODULE_PATHNAME", "$libdir/tasker");
        sqlx::raw_sql(&statement).execute(&mut session).await?;
    }
    let differing: BTreeMap<_, _> = functions(&mut session)
        .await?
        .into_iter()
        .filter(|(signature, function)| wanted.get(signature) != Some(function))
        .collect();
    assert!(differing.is_empty(), "{differing:#?}");
    Ok(())
}

/// Not a test: it writes. Run by pg_extension/upgrade-script.
#[tokio::test]
#[ignore = "writes the upgrade script: run it by pg_extension/upgrade-script"]
async fn the_functions_of_the_upgrade_script_are_written() -> anyhow::Result<()> {
    let old = database_of(&last_released()?).await?;
    let new = TestDatabase::new().await?;
    let statements = statements_to_reach(
        &functions(&mut new.session().await?).await?,
        &functions(&mut old.session().await?).await?,
    );
    let path = scripts()?.join(open_script()?);
    let text = std::fs::read_to_string(&path)?;
    let by_hand = text.split(MARK).next().unwrap_or_default();
    let mut text = format!("{}\n\n{MARK}\n", by_hand.trim_end());
    for statement in statements {
        write!(text, "\n{}\n", statement.trim_end())?;
    }
    std::fs::write(path, text)?;
    Ok(())
}
