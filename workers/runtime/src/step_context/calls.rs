//! What a handler asks of the database about its step while it runs.

use std::sync::PoisonError;

use serde::Serialize;
use serde_json::Value;
use tasker_client::{DependencyPage, DependencyResult};

use super::StepContext;
use crate::HandlerError;
use crate::calls::{CallError, DEADLINE, within};

impl StepContext {
    /// Keeps how far the step has come, while it goes on. Whoever claims the step after this attempt, because it failed or its worker
    /// died, finds the last checkpoint under [`StepContext::checkpoint`]. Each costs a transaction: save one where what would have to
    /// be done again takes longer.
    ///
    /// # Errors
    ///
    /// A retryable one while the database is away, a permanent one for a checkpoint that can't be written or is longer than
    /// `tasker.max_payload_bytes`. When the step isn't this attempt's any more, the attempt is cancelled as well: its handler is dropped
    /// at the next `await`.
    pub async fn save_checkpoint<C: Serialize + Sync>(
        &self,
        checkpoint: &C,
    ) -> Result<(), HandlerError> {
        let checkpoint = serde_json::to_value(checkpoint)?;
        if let Some(client) = &self.client {
            let call = client.save_checkpoint(self.step_uuid(), self.attempt(), &checkpoint);
            within(DEADLINE, call)
                .await
                .inspect_err(|error| self.heed(error))?;
        }
        let mut saved = self.saved.lock().unwrap_or_else(PoisonError::into_inner);
        *saved = Some(checkpoint);
        Ok(())
    }

    /// What [`StepContext::save_checkpoint`] kept last in this attempt.
    #[must_use]
    pub fn saved_checkpoint(&self) -> Option<Value> {
        let saved = self.saved.lock().unwrap_or_else(PoisonError::into_inner);
        saved.clone()
    }

    /// What became of the steps that this one depends on, a page at a time: for results that are too long together to be held in
    /// memory, and for those of steps further back (`transitive`). A draft has none.
    ///
    /// # Errors
    ///
    /// The database is away, or the step is gone.
    pub async fn get_dependency_results(
        &self,
        page: DependencyPage,
    ) -> Result<Vec<DependencyResult>, CallError> {
        let Some(client) = &self.client else {
            return Ok(Vec::new());
        };
        let call = client.get_dependency_results(self.step_uuid(), page);
        within(DEADLINE, call).await
    }

    fn heed(&self, error: &CallError) {
        if error.says_that_the_step_is_lost() {
            self.cancellation.cancel();
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[tokio::test]
    async fn a_draft_remembers_the_last_checkpoint() {
        let step = StepContext::draft("work", "t.work");
        assert_eq!(step.saved_checkpoint(), None);
        step.save_checkpoint(&json!({"rows": 10}))
            .await
            .expect("a draft keeps it");
        step.save_checkpoint(&20).await.expect("a draft keeps it");
        assert_eq!(step.saved_checkpoint(), Some(json!(20)));
        assert_eq!(step.checkpoint(), None, "no earlier attempt stored one");
    }

    #[tokio::test]
    async fn a_draft_has_no_pages() {
        let step = StepContext::draft("work", "t.work");
        let page = step
            .get_dependency_results(DependencyPage::default())
            .await
            .expect("nobody is asked");
        assert!(page.is_empty());
    }
}
