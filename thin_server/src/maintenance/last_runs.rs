//! What this server's last run of each job came to, for whoever asks how it is.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use chrono::{DateTime, Utc};
use serde::Serialize;
use tasker_client::{Error, JobRun};
use utoipa::ToSchema;

/// A run of one job of maintenance.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct LastRun {
    /// The job.
    #[schema(example = "run_schedules")]
    pub(crate) job: String,
    /// When it ended.
    pub(crate) at: DateTime<Utc>,
    /// How many rows it moved.
    pub(crate) processed: i64,
    /// Whether it stopped at the batch's limit with more to do.
    pub(crate) more: bool,
    /// The code of what it failed of; the server's log says more.
    pub(crate) failed: Option<String>,
}

/// The last run of each job. Cheap to clone: all clones are one.
#[derive(Debug, Clone, Default)]
pub(crate) struct LastRuns(Arc<Mutex<BTreeMap<String, LastRun>>>);

impl LastRuns {
    /// Remembers a run that has ended now.
    pub(crate) fn note(&self, job: &str, outcome: Result<JobRun, &Error>) {
        let run = LastRun {
            job: job.to_owned(),
            at: Utc::now(),
            processed: outcome.map_or(0, |run| run.processed),
            more: outcome.is_ok_and(|run| run.more),
            failed: outcome
                .err()
                .map(|error| error.code().unwrap_or("unreachable").to_owned()),
        };
        let mut runs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        runs.insert(run.job.clone(), run);
    }

    /// All of them, by the names of the jobs.
    pub(crate) fn all(&self) -> Vec<LastRun> {
        let runs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        runs.values().cloned().collect()
    }
}
