//! What time must do, where the extension's own worker doesn't run: due retries, ended leases, lost messages.
//!
//! Any number of servers may do this; the database lets one at a time.

use std::time::Duration;

use tasker_client::{Client, Error};

/// The pause between two rounds that found all done.
const PERIOD: Duration = Duration::from_secs(1);
/// The longest pause after failures in a row.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How many rows one transaction moves.
const BATCH: u32 = 1000;
/// A batch is bounded, so one that takes longer than this hangs.
pub(crate) const STATEMENT_TIMEOUT: Duration = Duration::from_mins(1);

/// Runs until `stopped` ends; a batch under way is finished.
pub(crate) async fn run(client: Client, stopped: impl Future<Output = ()>) {
    let mut stopped = std::pin::pin!(stopped);
    let mut failures: u32 = 0;
    loop {
        let pause = match client.run_maintenance(BATCH).await {
            Ok(jobs) => {
                if failures > 0 {
                    tracing::info!(failures, "maintenance runs again");
                    failures = 0;
                }
                if jobs.iter().any(|job| job.more) {
                    Duration::ZERO
                } else {
                    PERIOD
                }
            }
            Err(error) => {
                if failures == 0 {
                    report(&error);
                }
                failures = failures.saturating_add(1);
                pause_after(failures)
            }
        };
        tokio::select! {
            () = &mut stopped => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Said once for a row of failures: a database that is away would fill the log.
fn report(error: &Error) {
    tracing::warn!(code = error.code(), error = %error, "maintenance failed and is tried again until it runs");
}

fn pause_after(failures: u32) -> Duration {
    PERIOD
        .saturating_mul(1 << (failures - 1).min(10))
        .min(LONGEST_PAUSE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_half_a_minute() {
        assert_eq!(pause_after(1), PERIOD);
        assert_eq!(pause_after(3), PERIOD * 4);
        assert_eq!(pause_after(u32::MAX), LONGEST_PAUSE);
    }
}
