//! Waiting for a condition.

use std::time::{Duration, Instant};

use anyhow::bail;

const LOOKED_AT_EVERY: Duration = Duration::from_millis(10);

/// Looks again and again until `look` finds something, and fails with `what` when it hasn't within the time.
pub async fn eventually<T>(
    what: &str,
    within: Duration,
    mut look: impl AsyncFnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    let deadline = Instant::now() + within;
    loop {
        if let Some(found) = look().await? {
            return Ok(found);
        }
        if Instant::now() > deadline {
            bail!("not within {} ms: {what}", within.as_millis());
        }
        tokio::time::sleep(LOOKED_AT_EVERY).await;
    }
}
