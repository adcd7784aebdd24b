//! A cluster taken over by `pg_upgrade` into PostgreSQL 18, from the version that is tested on, with PGMQ in both its forms: everything is there, and the work goes on.
//! It needs the extension installed for both (`pg_extension/install 18`).

use std::path::Path;
use std::process::Command;

use anyhow::{Context, ensure};
use serde_json::json;
use sqlx::{Connection, PgConnection};
use tasker_client::{Client, ConnectOptions};
use tasker_tests::contents::{columns, hashes};
use tasker_tests::flight::Flight;
use tasker_tests::following::{completed, create, verified};
use tasker_tests::partitions::{have_one_shape, ranges};
use tasker_tests::releases::{NEWEST, install, last_released, upgrade};
use tasker_tests::{
    OwnCluster, Program, StopMode, bin_dir, bin_dir_of, bin_dir_with_pgmq, bin_dir_with_pgmq_of,
    examples,
};

/// What is upgraded to.
const TARGET: u32 = 18;

/// A second copy of PostgreSQL 18, where PGMQ is to be had as an extension.
fn target_with_pgmq() -> anyhow::Result<std::path::PathBuf> {
    bin_dir_of(TARGET)?;
    bin_dir_with_pgmq_of(TARGET)
}

/// Runs a program in a cluster's folder, as the account that owns it.
fn run(command: &mut Command) -> anyhow::Result<()> {
    let output = command
        .output()
        .with_context(|| format!("can't run {command:?}"))?;
    ensure!(
        output.status.success(),
        "{command:?}: {}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

fn data(own: &OwnCluster) -> std::path::PathBuf {
    own.cluster.folder().join("data")
}

/// PostgreSQL 18 makes clusters with checksums, older ones without: both must be of one kind.
fn with_checksums(own: &OwnCluster) -> anyhow::Result<()> {
    let shown = own.command("pg_controldata")?.arg(data(own)).output()?;
    let shown = String::from_utf8(shown.stdout)?;
    let version = shown
        .lines()
        .find_map(|line| line.strip_prefix("Data page checksum version:"))
        .context("pg_controldata tells no checksum version")?;
    if version.trim() == "0" {
        run(own
            .command("pg_checksums")?
            .arg("--enable")
            .arg("--no-sync")
            .arg("--pgdata")
            .arg(data(own)))?;
    }
    Ok(())
}

/// 15.20 gives each new column the option `pg_attver`; `pg_dump` of 18.4 writes it down, and that server refuses it. It has nothing to do with Tasker: a table of one column meets it too.
/// It is taken off behind PostgreSQL's back, so that the rest of the way can be tested; docs/operations/upgrade.md tells of it.
async fn without_numbered_columns(own: &OwnCluster) -> anyhow::Result<()> {
    let take_off =
        "update pg_attribute set attoptions = null where attoptions::text like '{pg\\_attver=%}'";
    for database in ["postgres", "template1", "tasker"] {
        let mut session = PgConnection::connect(&own.cluster.url(database)).await?;
        sqlx::query(take_off).execute(&mut session).await?;
        session.close().await?;
    }
    Ok(())
}

/// Takes a stopped cluster over into another one that is stopped and empty.
fn pg_upgrade(from: &OwnCluster, to: &OwnCluster) -> anyhow::Result<()> {
    let bin_dir = |own: &OwnCluster| -> anyhow::Result<std::path::PathBuf> {
        let program = own.cluster.program("postgres");
        Ok(program.parent().context("no folder")?.to_owned())
    };
    let mut command = to.command("pg_upgrade")?;
    command
        .args(["--username", "postgres", "--old-bindir"])
        .arg(bin_dir(from)?)
        .arg("--new-bindir")
        .arg(bin_dir(to)?)
        .arg("--old-datadir")
        .arg(data(from))
        .arg("--new-datadir")
        .arg(data(to))
        .arg("--no-sync");
    let log = data(to).join("pg_upgrade_output.d");
    run(&mut command).with_context(|| complaints(&log))
}

/// What `pg_upgrade` has kept of what went wrong.
fn complaints(folder: &Path) -> String {
    let mut text = String::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            if entry.path().is_dir() {
                folders.push(entry.path());
            } else if let Ok(log) = std::fs::read_to_string(entry.path()) {
                text.extend(
                    log.lines()
                        .filter(|line| line.contains("rror:") || line.contains("ERROR:"))
                        .flat_map(|line| [line, "\n"]),
                );
            }
        }
    }
    text
}

async fn client_of(own: &OwnCluster) -> anyhow::Result<Client> {
    Ok(Client::connect(&own.url(), ConnectOptions::default()).await?)
}

/// Everything is kept, and the work goes on. The version of the extension is kept too: it is updated there.
async fn a_cluster_is_taken_over(
    from: &OwnCluster,
    mut to: OwnCluster,
    version: &str,
) -> anyhow::Result<()> {
    let old = client_of(from).await?;
    examples::register(&old).await?;
    let mut worker = Program::worker(&from.url(), &[])?;
    let finished = create(&old, "example", "diamond_workflow", &json!({"n": 3})).await?;
    completed(&old, finished).await?;
    worker.kill().await?;
    let mut session = PgConnection::connect(&from.url()).await?;
    let flight = Flight::take_off(&mut session).await?;
    let cursor = flight.cursor().to_owned();
    let ranges_before = ranges(&mut session).await?;
    assert!(ranges_before.len() >= 4, "{ranges_before:?}");
    let columns = columns(old.pool()).await?;
    let before = hashes(old.pool(), &columns).await?;
    session.close().await?;
    without_numbered_columns(from).await?;
    old.close().await;

    from.cluster.stop(StopMode::Fast)?;
    to.cluster.stop(StopMode::Fast)?;
    with_checksums(from)?;
    with_checksums(&to)?;
    pg_upgrade(from, &to)?;
    to.cluster.start()?;

    let client = client_of(&to).await?;
    let mut session = PgConnection::connect(&to.url()).await?;
    let major: String = sqlx::query_scalar("select current_setting('server_version_num')")
        .fetch_one(&mut session)
        .await?;
    assert!(major.starts_with(&TARGET.to_string()), "{major}");
    assert_eq!(client.version().await?, version);
    assert_eq!(hashes(client.pool(), &columns).await?, before);
    assert_eq!(ranges(&mut session).await?, ranges_before);
    have_one_shape(&mut session).await?;
    assert!(client.verify(None).await?.is_empty());
    if version != NEWEST {
        upgrade(&mut session).await?;
    }
    assert_eq!(client.version().await?, NEWEST);

    flight.land(&mut session).await?;
    let _worker = Program::worker(&to.url(), &[])?;
    let after = create(&client, "example", "diamond_workflow", &json!({"n": 3})).await?;
    completed(&client, after).await?;
    Flight::is_followed(&cursor, client.pool(), after).await?;
    assert_eq!(client.get_task(finished).await?.state, "complete");
    have_one_shape(&mut session).await?;
    verified(&client).await
}

#[tokio::test]
async fn pg_upgrade_keeps_everything_with_pgmq_as_plain_sql() -> anyhow::Result<()> {
    let to = OwnCluster::start_empty(bin_dir_of(TARGET)?)?;
    let from = OwnCluster::start_empty(bin_dir()?)?;
    from.cluster.create_database("tasker", None)?;
    tasker_client::init(&client_of(&from).await?).await?;
    a_cluster_is_taken_over(&from, to, NEWEST).await
}

#[tokio::test]
async fn pg_upgrade_keeps_everything_with_pgmq_as_an_extension() -> anyhow::Result<()> {
    let to = OwnCluster::start_empty(target_with_pgmq()?)?;
    let from = OwnCluster::start_empty(bin_dir_with_pgmq()?)?;
    from.cluster.create_database("tasker", None)?;
    let client = client_of(&from).await?;
    tasker_client::init(&client).await?;
    let has_extension: bool =
        sqlx::query_scalar("select exists (select from pg_extension where extname = 'pgmq')")
            .fetch_one(client.pool())
            .await?;
    assert!(has_extension);
    client.close().await;
    a_cluster_is_taken_over(&from, to, NEWEST).await
}

/// The new PostgreSQL has the library of today only; the schema is still that of the last release.
#[tokio::test]
async fn pg_upgrade_keeps_the_version_of_the_extension_which_is_updated_there() -> anyhow::Result<()>
{
    let to = OwnCluster::start_empty(bin_dir_of(TARGET)?)?;
    let from = OwnCluster::start_empty(bin_dir()?)?;
    from.cluster.create_database("tasker", None)?;
    let client = client_of(&from).await?;
    let version = last_released()?;
    install(client.pool(), &version).await?;
    client.close().await;
    a_cluster_is_taken_over(&from, to, &version).await
}
