//! The results that the engine reads: what a decision chooses, what a batch is cut into, and how the
//! instances of a batch ended.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The result of a step of type `decision`.
///
/// ```
/// use tasker_worker_runtime::Decision;
///
/// let result = Decision::steps(["manager_approval", "finance_review"]);
/// assert_eq!(result["decision"]["steps"][1], "finance_review");
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Decision;

impl Decision {
    /// The branches that are to exist, by the names of steps behind the decision.
    #[must_use]
    pub fn steps(names: impl IntoIterator<Item = impl Into<String>>) -> Value {
        let names: Vec<String> = names.into_iter().map(Into::into).collect();
        json!({"decision": {"steps": names}})
    }

    /// No branch.
    #[must_use]
    pub fn none() -> Value {
        Self::steps(Vec::<String>::new())
    }
}

/// The result of a step of type `batchable`.
///
/// ```
/// use serde_json::json;
/// use tasker_worker_runtime::Batch;
///
/// let result = Batch::cursors([json!({"from": 1}), json!({"from": 201})])?;
/// assert_eq!(result["batch"]["cursors"][1]["from"], 201);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Batch;

impl Batch {
    /// One instance of the batch worker for each cursor, whatever that is.
    ///
    /// # Errors
    ///
    /// A cursor that can't be written as JSON.
    pub fn cursors<C: Serialize>(
        cursors: impl IntoIterator<Item = C>,
    ) -> Result<Value, serde_json::Error> {
        let cursors = cursors
            .into_iter()
            .map(serde_json::to_value)
            .collect::<Result<Vec<_>, _>>()?;
        Ok(json!({"batch": {"cursors": cursors}}))
    }

    /// No instance.
    #[must_use]
    pub fn none() -> Value {
        json!({"batch": {"cursors": []}})
    }
}

/// How one instance of a batch worker ended, as the steps behind the batch are told.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Instance<T> {
    /// Its place among the instances, from 0.
    pub index: u32,
    /// Its state: `complete`, `resolved_manually`, or `error` where the batch goes on without it.
    pub status: String,
    /// What it returned; `None` for one that failed or was settled without a result.
    pub result: Option<T>,
    /// Why it failed.
    pub error: Option<Value>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_chosen_and_nothing_to_do_are_empty_lists() {
        assert_eq!(Decision::none(), json!({"decision": {"steps": []}}));
        assert_eq!(Batch::none(), json!({"batch": {"cursors": []}}));
    }

    #[test]
    fn an_instance_is_read_with_its_result_or_its_error() {
        let read = |value| serde_json::from_value::<Instance<u32>>(value);
        let done = read(json!({"index": 0, "status": "complete", "result": 7})).expect("it fits");
        assert_eq!((done.result, done.error), (Some(7), None));
        let failed = json!({"index": 1, "status": "error", "error": {"message": "no"}});
        let failed = read(failed).expect("it fits");
        assert_eq!(failed.result, None);
        assert!(failed.error.is_some());
    }
}
