//! A dump of an older version, restored where only the library of today is installed: it is restored as that version and updated then.

use std::process::Output;

use anyhow::{Context, ensure};
use sqlx::{Connection, PgConnection};
use tasker_client::{Client, ConnectOptions};
use tasker_tests::contents::contents;
use tasker_tests::flight::Flight;
use tasker_tests::following::verified;
use tasker_tests::partitions::{have_one_shape, ranges};
use tasker_tests::releases::{NEWEST, install, released, upgrade};
use tasker_tests::{OwnCluster, ScratchFolder, bin_dir};
use tokio::process::Command;

/// What a dump says of the extension: no version, so that `create extension` would make the newest.
const UNVERSIONED: &str = "CREATE EXTENSION IF NOT EXISTS tasker WITH SCHEMA tasker;";

fn succeeded(output: &Output) -> anyhow::Result<()> {
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

/// Dumps a database, has the dump name the version that it was made of, and restores it into another cluster.
async fn dump_and_restore(from: &OwnCluster, to: &OwnCluster, version: &str) -> anyhow::Result<()> {
    let scratch = ScratchFolder::new()?;
    let file = scratch.path().join("dump.sql");
    let mut dump = Command::new(from.cluster.program("pg_dump"));
    succeeded(
        &dump
            .arg("--file")
            .arg(&file)
            .arg(from.url())
            .output()
            .await?,
    )?;
    let text = std::fs::read_to_string(&file)?;
    let (before, after) = text
        .split_once(UNVERSIONED)
        .context("the dump makes the extension in other words")?;
    let create = format!("CREATE EXTENSION tasker WITH SCHEMA tasker VERSION '{version}';");
    std::fs::write(&file, [before, &create, after].concat())?;
    to.cluster.create_database("tasker", None)?;
    let mut restore = Command::new(to.cluster.program("psql"));
    restore
        .args(["--no-psqlrc", "--quiet", "-v", "ON_ERROR_STOP=1", "--file"])
        .arg(&file)
        .arg(to.url());
    succeeded(&restore.output().await?)
}

#[tokio::test]
async fn a_dump_of_an_older_version_is_restored_and_updated() -> anyhow::Result<()> {
    for old in released()? {
        let from = OwnCluster::start_empty(bin_dir()?)?;
        from.cluster.create_database("tasker", None)?;
        let client = Client::connect(&from.url(), ConnectOptions::default()).await?;
        install(client.pool(), &old).await?;
        let mut session = PgConnection::connect(&from.url()).await?;
        let flight = Flight::take_off(&mut session).await?;
        let before = (contents(client.pool()).await?, ranges(&mut session).await?);

        let to = OwnCluster::start_empty(bin_dir()?)?;
        dump_and_restore(&from, &to, &old).await?;
        let client = Client::connect(&to.url(), ConnectOptions::default()).await?;
        let mut session = PgConnection::connect(&to.url()).await?;
        assert_eq!(client.version().await?, old);
        let after = (contents(client.pool()).await?, ranges(&mut session).await?);
        assert!(after == before, "what was dumped isn't what was restored");
        upgrade(&mut session).await?;
        assert_eq!(client.version().await?, NEWEST);
        flight.land(&mut session).await?;
        have_one_shape(&mut session).await?;
        verified(&client).await?;
    }
    Ok(())
}
