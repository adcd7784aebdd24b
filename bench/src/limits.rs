//! What the machine and PGMQ can do without Tasker.

use std::path::Path;
use std::process::Stdio;
use std::time::Instant;

use anyhow::{Context, ensure};
use serde::Serialize;
use sqlx::{Connection, Executor, PgConnection};
use tokio::process::Command;

use crate::distribution::Distribution;
use crate::options::Extent;
use crate::stage::{Stage, project};

/// The numbers of clients and of connections that everything is measured with.
pub(crate) const CLIENTS: [u32; 4] = [1, 2, 4, 8];
const CORES_USED: u32 = 2;
const QUEUE: &str = "bench_raw";
const HUNDRED: usize = 100;

/// The machine's limits, measured in the same run.
#[derive(Debug, Serialize)]
pub(crate) struct Limits {
    /// One-row commits by pgbench, by the number of clients; each is the mean of a run before and one after.
    pub(crate) commits: Vec<Commits>,
    /// PGMQ's own functions: send, read, delete.
    pub(crate) pgmq: Pgmq,
}

impl Limits {
    /// c: the median of a one-row commit with one client.
    pub(crate) fn commit_ms(&self) -> f64 {
        self.commits.first().map_or(0.0, |one| one.latency.p50_ms)
    }

    /// C8: one-row commits a second with eight clients.
    pub(crate) fn commits_per_second_of_8(&self) -> f64 {
        self.commits.last().map_or(0.0, |eight| eight.per_second)
    }
}

/// One-row commits with one number of clients.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Commits {
    pub(crate) clients: u32,
    pub(crate) per_second: f64,
    /// Of the runs before and after, which tells how steady the machine was.
    pub(crate) per_second_of_each: Vec<f64>,
    pub(crate) latency: Distribution,
}

/// PGMQ's raw round, on one connection.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Pgmq {
    /// One message sent, read and deleted, each call a commit.
    pub(crate) one_by_one: Distribution,
    pub(crate) one_by_one_messages_per_second: f64,
    /// A hundred at a time, three commits.
    pub(crate) hundreds_messages_per_second: f64,
}

/// One run of pgbench: each transaction's time, and the rate.
#[derive(Debug)]
pub(crate) struct CommitRun {
    times_ms: Vec<f64>,
    per_second: f64,
}

/// Runs pgbench with each number of clients.
pub(crate) async fn commit_runs(stage: &Stage, extent: Extent) -> anyhow::Result<Vec<CommitRun>> {
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

/// Sends, reads and deletes by PGMQ's own functions.
pub(crate) async fn pgmq(stage: &Stage, extent: Extent) -> anyhow::Result<Pgmq> {
    let mut session = PgConnection::connect(&stage.url()).await?;
    sqlx::query("select pgmq.create($1)")
        .bind(QUEUE)
        .execute(&mut session)
        .await?;
    let mut times = Vec::new();
    let began = Instant::now();
    for _ in 0..extent.pgmq_rounds {
        let sent = Instant::now();
        one_message(&mut session).await?;
        times.push(sent.elapsed().as_secs_f64() * 1_000.0);
    }
    let one_by_one_seconds = began.elapsed().as_secs_f64();
    let hundreds = (extent.pgmq_rounds / 10).max(1);
    let began = Instant::now();
    for _ in 0..hundreds {
        hundred_messages(&mut session).await?;
    }
    let hundreds_seconds = began.elapsed().as_secs_f64();
    sqlx::query("select pgmq.drop_queue($1)")
        .bind(QUEUE)
        .execute(&mut session)
        .await?;
    session.close().await?;
    Ok(Pgmq {
        one_by_one: Distribution::of(times).context("no rounds")?,
        one_by_one_messages_per_second: extent.pgmq_rounds as f64 / one_by_one_seconds,
        hundreds_messages_per_second: (hundreds * HUNDRED) as f64 / hundreds_seconds,
    })
}

async fn one_message(session: &mut PgConnection) -> anyhow::Result<()> {
    sqlx::query("select pgmq.send($1, '{\"n\": 1}'::jsonb)")
        .bind(QUEUE)
        .execute(&mut *session)
        .await?;
    let read: Vec<i64> = read(session, 1).await?;
    ensure!(read.len() == 1, "the message wasn't there");
    sqlx::query("select pgmq.delete($1, $2::bigint)")
        .bind(QUEUE)
        .bind(read[0])
        .execute(session)
        .await?;
    Ok(())
}

async fn hundred_messages(session: &mut PgConnection) -> anyhow::Result<()> {
    sqlx::query("select pgmq.send_batch($1, array_fill('{\"n\": 1}'::jsonb, array[$2]))")
        .bind(QUEUE)
        .bind(HUNDRED as i32)
        .execute(&mut *session)
        .await?;
    let read = read(session, HUNDRED).await?;
    ensure!(read.len() == HUNDRED, "{} messages were there", read.len());
    sqlx::query("select pgmq.delete($1, $2::bigint[])")
        .bind(QUEUE)
        .bind(read)
        .execute(session)
        .await?;
    Ok(())
}

async fn read(session: &mut PgConnection, count: usize) -> anyhow::Result<Vec<i64>> {
    Ok(
        sqlx::query_scalar("select msg_id from pgmq.read($1, 30, $2)")
            .bind(QUEUE)
            .bind(count as i32)
            .fetch_all(session)
            .await?,
    )
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
