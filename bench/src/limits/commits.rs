//! One-row commits by pgbench, with each number of clients.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, ensure};
use serde::Serialize;
use sqlx::{Connection, Executor, PgConnection};
use tokio::process::Command;

use super::CLIENTS;
use crate::distribution::Distribution;
use crate::options::Extent;
use crate::stage::{Stage, project};

const CORES_USED: u32 = 2;

/// One-row commits with one number of clients.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Commits {
    pub(crate) clients: u32,
    pub(crate) per_second: f64,
    /// Of the runs before and after, which tells how steady the machine was.
    pub(crate) per_second_of_each: Vec<f64>,
    pub(crate) latency: Distribution,
}

/// One run of pgbench: each transaction's time, and the rate.
#[derive(Debug)]
pub(crate) struct CommitRun {
    times_ms: Vec<f64>,
    per_second: f64,
}

/// Runs pgbench with each number of clients.
pub(crate) async fn runs(stage: &Stage, extent: Extent) -> anyhow::Result<Vec<CommitRun>> {
    let mut session = PgConnection::connect(&stage.outside_url()).await?;
    session
        .execute("create schema if not exists bench; create table if not exists bench.commits (n integer not null)")
        .await?;
    session.close().await?;
    let mut runs = Vec::new();
    for clients in CLIENTS {
        runs.push(pgbench(stage, clients, extent.pgbench_seconds).await?);
    }
    Ok(runs)
}

/// The runs before and after as one.
pub(crate) fn merge(before: Vec<CommitRun>, after: Vec<CommitRun>) -> anyhow::Result<Vec<Commits>> {
    let mut merged = Vec::new();
    for ((clients, before), after) in CLIENTS.into_iter().zip(before).zip(after) {
        let rates = vec![before.per_second, after.per_second];
        let times_ms = [before.times_ms, after.times_ms].concat();
        merged.push(Commits {
            clients,
            per_second: rates.iter().sum::<f64>() / 2.0,
            per_second_of_each: rates,
            latency: Distribution::of(times_ms).context("pgbench committed nothing")?,
        });
    }
    Ok(merged)
}

async fn pgbench(stage: &Stage, clients: u32, seconds: u32) -> anyhow::Result<CommitRun> {
    let folder = stage.scratch("pgbench")?;
    let output = Command::new(stage.cluster.program("pgbench"))
        .args(["--no-vacuum", "--protocol", "prepared", "--log"])
        .args(["--log-prefix", "times"])
        .args(["--client", &clients.to_string()])
        .args(["--jobs", &clients.min(CORES_USED).to_string()])
        .args(["--time", &seconds.to_string()])
        .arg("--file")
        .arg(project().join("bench/pgbench/one_row_commit.sql"))
        .arg(stage.outside_url())
        .current_dir(&folder)
        .stdin(Stdio::null())
        .output()
        .await
        .context("can't run pgbench")?;
    ensure!(
        output.status.success(),
        "pgbench failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let per_second = tps(&String::from_utf8_lossy(&output.stdout))
        .context("pgbench told no transactions a second")?;
    Ok(CommitRun {
        times_ms: logged_times(&folder)?,
        per_second,
    })
}

/// `tps = 1234.5 (without initial connection time)`
fn tps(output: &str) -> Option<f64> {
    let line = output
        .lines()
        .find_map(|line| line.strip_prefix("tps = "))?;
    line.split_whitespace().next()?.parse().ok()
}

fn logged_times(folder: &Path) -> anyhow::Result<Vec<f64>> {
    let mut times = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let text = std::fs::read_to_string(entry?.path())?;
        times.extend(text.lines().filter_map(logged_ms));
    }
    Ok(times)
}

/// Client, transaction, microseconds, …
fn logged_ms(line: &str) -> Option<f64> {
    let microseconds: f64 = line.split_whitespace().nth(2)?.parse().ok()?;
    Some(microseconds / 1_000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_read_from_what_pgbench_writes() {
        let output = "latency average = 0.2 ms\ntps = 4817.25 (without initial connection time)\n";
        assert_eq!(tps(output), Some(4817.25));
    }

    #[test]
    fn the_time_of_a_transaction_is_the_third_word_of_its_line() {
        assert_eq!(logged_ms("0 199 2241 0 1175850568 995598"), Some(2.241));
    }
}
