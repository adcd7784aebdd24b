//! What time must do, where the extension's own worker doesn't run: due retries, ended leases, lost messages. Each job is a transaction of its own.
//!
//! Any number of servers may do this; the database lets one at a time.

use std::time::{Duration, Instant};

use tasker_client::rounds::Troubles;
use tasker_client::{Client, Error, JobRun};

mod last_runs;

pub(crate) use last_runs::{LastRun, LastRuns};

use crate::metrics::Metrics;

/// The pause between two rounds that found all done.
const PERIOD: Duration = Duration::from_secs(1);
/// The longest pause after failures in a row.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How many rows one transaction moves.
const BATCH: u32 = 1000;
/// A batch is bounded, so one that takes longer than this hangs.
pub(crate) const STATEMENT_TIMEOUT: Duration = Duration::from_mins(1);
/// Asking what is due, which can fail like a job.
const LISTING: &str = "list_due_jobs";
/// Stands for all jobs together, where the extension doesn't know them one by one.
const WHOLE_ROUND: &str = "run_maintenance";

/// Runs until `stopped` ends; a batch under way is finished.
pub(crate) async fn run(
    client: Client,
    last_runs: LastRuns,
    metrics: Metrics,
    stopped: impl Future<Output = ()>,
) {
    let mut stopped = std::pin::pin!(stopped);
    let mut rounds = Rounds {
        client,
        last_runs,
        metrics,
        begun: Instant::now(),
        by_job: false,
        troubles: Troubles::new(PERIOD, LONGEST_PAUSE),
    };
    loop {
        let pause = rounds.next().await;
        tokio::select! {
            () = &mut stopped => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// One round after the other, and what the log has been told of them: a database that is away would fill it.
struct Rounds {
    client: Client,
    last_runs: LastRuns,
    metrics: Metrics,
    begun: Instant,
    /// The extension can do one job at a time, as far as is known.
    by_job: bool,
    troubles: Troubles<String>,
}

impl Rounds {
    /// Runs what is due, and gives the pause before the next round.
    async fn next(&mut self) -> Duration {
        self.metrics.maintenance.rounds.inc();
        let jobs = match self.due().await {
            Ok(jobs) => jobs,
            Err(error) => {
                // It may be another version by the time it is back.
                self.by_job = false;
                self.failed(LISTING, &error);
                return self.troubles.rest_of(LISTING, self.begun.elapsed());
            }
        };
        for job in self.troubles.keep(&jobs) {
            tracing::info!(job, "maintenance runs again");
        }
        let mut is_more = false;
        for job in &jobs {
            if !self.troubles.lets_run(job, self.begun.elapsed()) {
                continue;
            }
            match self.run(job).await {
                Ok(Some(run)) => {
                    self.last_runs.note(job, Ok(run));
                    is_more |= run.more;
                    if self.troubles.done(job) {
                        tracing::info!(job, "maintenance runs again");
                    }
                }
                // Another session is at it.
                Ok(None) => break,
                Err(error) => {
                    self.last_runs.note(job, Err(&error));
                    self.failed(job, &error);
                    if matches!(error, Error::Unreachable(_) | Error::Unavailable(_)) {
                        break;
                    }
                }
            }
        }
        if is_more { Duration::ZERO } else { PERIOD }
    }

    async fn due(&mut self) -> Result<Vec<String>, Error> {
        if !self.by_job {
            self.by_job = self.client.has_maintenance_jobs().await?;
        }
        if self.by_job {
            self.client.list_due_jobs().await
        } else {
            Ok(vec![WHOLE_ROUND.to_owned()])
        }
    }

    /// What it came to; nothing when another session is at it.
    async fn run(&self, job: &str) -> Result<Option<JobRun>, Error> {
        if job == WHOLE_ROUND {
            let runs = self.client.run_maintenance(BATCH).await?;
            for run in &runs {
                self.metrics.maintenance.done(&run.job, run.processed);
            }
            return Ok(Some(JobRun {
                processed: runs.iter().map(|run| run.processed).sum(),
                more: runs.iter().any(|run| run.more),
            }));
        }
        let run = self.client.run_maintenance_job(job, BATCH).await?;
        if let Some(run) = &run {
            self.metrics.maintenance.done(job, run.processed);
        }
        Ok(run)
    }

    fn failed(&mut self, job: &str, error: &Error) {
        self.metrics.maintenance.failed(job);
        if self
            .troubles
            .failed(job, self.begun.elapsed(), error.to_string())
        {
            tracing::warn!(job, code = error.code(), error = %error, "maintenance failed and is tried again until it runs");
        }
    }
}
