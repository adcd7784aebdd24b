//! Waiting for a condition.

use std::time::{Duration, Instant};

use anyhow::bail;

const LOOKED_AT_EVERY: Duration = Duration::from_millis(10);

/// Looks again and again until `look` finds something, and fails with `what` when it hasn't within the time.
pub async fn eventually<T, Look, Found>(
    what: &str,
    within: Duration,
    mut look: Look,
) -> anyhow::Result<T>
where
    Look: FnMut() -> Found,
    Found: Future<Output = anyhow::Result<Option<T>>>,
{
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
