//! The results of the steps before: as they are given with the step, and as they are read in pages where they are too long for that.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use tasker_client::{DependencyPage, DependencyResult};
use uuid::Uuid;

use super::{InputError, StepContext, read};
use crate::calls::CallError;
use crate::{HandlerError, Instance};

/// Results that are longer together are not held in memory.
const MOST_BYTES: usize = 64 * 1024 * 1024;
/// A page should have about so many bytes, whatever the length of a result.
const BYTES_A_PAGE: usize = 4 * 1024 * 1024;
/// The rows of the first page, before the length of a result is known.
const FIRST_PAGE: u32 = 50;
const LARGEST_PAGE: u32 = 1000;

impl StepContext {
    /// The results of the direct dependencies by step name. Those of the instances of a map or a batch that are too long together are
    /// only referred to here, as `{"reference": {"step_uuid": …, "count": …}}`; [`StepContext::dependency`] and
    /// [`StepContext::instances`] read them all the same.
    #[must_use]
    pub fn dependency_results(&self) -> &Map<String, Value> {
        &self.data.dependency_results
    }

    /// The result of the direct dependency `name`.
    pub fn dependency<T: DeserializeOwned>(&self, name: &str) -> Result<T, InputError> {
        let value = self.dependency_value(name)?;
        let place = || format!("the result of `{name}`");
        if let Some(instances) = self.data.instances.get(name) {
            let of_a_map = Value::Array(instances.iter().map(element).collect());
            return read(&of_a_map, place)
                .or_else(|unfit| read(&told(instances), place).map_err(|_| unfit));
        }
        read(value, place).map_err(|unfit| elsewhere(name, value).unwrap_or(unfit))
    }

    /// How the instances of the batch worker `name` ended, in the order of their cursors.
    pub fn instances<T: DeserializeOwned>(
        &self,
        name: &str,
    ) -> Result<Vec<Instance<T>>, InputError> {
        match self.data.instances.get(name) {
            Some(instances) => read(&told(instances), || format!("the result of `{name}`")),
            None => self.dependency(name),
        }
    }

    fn dependency_value(&self, name: &str) -> Result<&Value, InputError> {
        let results = &self.data.dependency_results;
        results.get(name).ok_or_else(|| InputError::NoDependency {
            name: name.into(),
            present: match results.len() {
                0 => "none".into(),
                _ => results
                    .keys()
                    .map(String::as_str)
                    .collect::<Vec<_>>()
                    .join(", "),
            },
        })
    }

    /// The step with the results that are only referred to, read in pages, unless they are too long to be held in memory.
    pub(crate) async fn gathered(mut self) -> Result<Self, HandlerError> {
        let results = self.data.dependency_results.iter();
        let names: BTreeSet<String> = results
            .filter(|(_, result)| count_of_reference(result).is_some())
            .map(|(name, _)| name.clone())
            .collect();
        if names.is_empty() || self.client.is_none() {
            return Ok(self);
        }
        if let Some(instances) = self.read_instances(&names).await? {
            let mut data = self.data.as_ref().clone();
            data.instances = instances;
            self.data = Arc::new(data);
        }
        Ok(self)
    }

    /// All instances of the dependencies with these names; none when they are too long.
    async fn read_instances(
        &self,
        names: &BTreeSet<String>,
    ) -> Result<Option<HashMap<String, Vec<DependencyResult>>>, CallError> {
        let mut instances: HashMap<String, Vec<DependencyResult>> = HashMap::new();
        let mut bytes = 0;
        let mut page = DependencyPage {
            limit: FIRST_PAGE,
            ..DependencyPage::default()
        };
        loop {
            let rows = self.get_dependency_results(page).await?;
            let is_last = rows.len() < page.limit as usize;
            let length: usize = rows.iter().map(length_of).sum();
            bytes += length;
            if bytes > MOST_BYTES {
                return Ok(None);
            }
            page.after = rows.last().map(|row| row.step_uuid);
            page.limit = next_limit(rows.len(), length);
            for row in rows {
                let definition = row.instance.and(row.name.rsplit_once('_'));
                if let Some((name, _)) = definition.filter(|(name, _)| names.contains(*name)) {
                    instances.entry(name.to_owned()).or_default().push(row);
                }
            }
            if is_last {
                return Ok(Some(instances));
            }
        }
    }
}

/// How many results there are that are too long together to be given with a step.
fn count_of_reference(result: &Value) -> Option<u64> {
    let reference = result.get("reference")?;
    let step_uuid = reference.get("step_uuid")?.as_str()?;
    step_uuid.parse::<Uuid>().ok()?;
    reference.get("count")?.as_u64()
}

fn elsewhere(name: &str, result: &Value) -> Option<InputError> {
    count_of_reference(result).map(|count| InputError::Elsewhere {
        name: name.into(),
        count,
    })
}

fn length_of(row: &DependencyResult) -> usize {
    let values = [&row.result, &row.error].into_iter().flatten();
    values
        .map(|value| serde_json::to_vec(value).map_or(0, |text| text.len()))
        .sum()
}

/// So many rows of the length seen make a page.
fn next_limit(rows: usize, bytes: usize) -> u32 {
    let rows = rows.saturating_mul(BYTES_A_PAGE) / bytes.max(1);
    u32::try_from(rows)
        .unwrap_or(LARGEST_PAGE)
        .clamp(1, LARGEST_PAGE)
}

/// An element of a map's result, as the engine gathers it.
fn element(row: &DependencyResult) -> Value {
    if row.state == "error" {
        json!({"error": row.error})
    } else {
        row.result.clone().unwrap_or(Value::Null)
    }
}

/// How the instances of a batch ended, as the engine tells it.
fn told(instances: &[DependencyResult]) -> Value {
    let told = instances.iter().map(|row| {
        let index = row.instance.unwrap_or(1) - 1;
        if row.state == "error" {
            json!({"index": index, "status": row.state, "error": row.error})
        } else {
            json!({"index": index, "status": row.state, "result": row.result})
        }
    });
    Value::Array(told.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: &str = "01980000-0000-7000-8000-000000000001";

    fn step() -> StepContext {
        StepContext::draft("join", "t.join")
            .with_dependency("left", json!({"n": "4"}))
            .with_dependency("right", json!({"n": "5"}))
    }

    fn large(count: u64) -> StepContext {
        let reference = json!({"reference": {"step_uuid": STEP, "count": count}});
        StepContext::draft("join", "t.join").with_dependency("work", reference)
    }

    fn row(instance: i32, state: &str, result: Option<Value>) -> DependencyResult {
        DependencyResult {
            step_uuid: Uuid::nil(),
            name: format!("work_{instance:06}"),
            instance: Some(instance),
            state: state.to_owned(),
            error: (state == "error").then(|| json!({"message": "no"})),
            result,
        }
    }

    #[test]
    fn results_are_read_by_the_names_of_their_steps() {
        let left: Value = step().dependency("left").expect("left has a result");
        assert_eq!(left["n"], "4");
        let error = step()
            .dependency::<Value>("up")
            .expect_err("there is no up");
        assert_eq!(
            error.to_string(),
            "the step has no result of a dependency `up`; it has: left, right"
        );
    }

    #[test]
    fn results_that_are_too_long_to_be_held_are_told_apart_from_bad_ones() {
        let error = large(90_000)
            .instances::<u32>("work")
            .expect_err("it is a reference");
        assert!(matches!(error, InputError::Elsewhere { count: 90_000, .. }));
        assert!(!HandlerError::from(error).is_retryable());
        let whole: Value = large(9).dependency("work").expect("any JSON fits");
        assert_eq!(whole["reference"]["count"], 9);
    }

    #[tokio::test]
    async fn a_draft_keeps_its_references() {
        let step = large(9).gathered().await.expect("nobody is asked");
        assert!(step.dependency::<Vec<u32>>("work").is_err());
    }

    #[test]
    fn what_was_read_in_pages_reads_like_what_is_given() {
        let mut step = large(3);
        let rows = vec![
            row(1, "complete", Some(json!(7))),
            row(2, "error", None),
            row(3, "resolved_manually", None),
        ];
        let data = Arc::get_mut(&mut step.data).expect("it isn't shared");
        data.instances.insert("work".to_owned(), rows);

        let of_a_map: Vec<Value> = step.dependency("work").expect("it is an array");
        assert_eq!(
            of_a_map,
            [json!(7), json!({"error": {"message": "no"}}), Value::Null]
        );
        let of_a_batch = step.instances::<u32>("work").expect("they fit");
        assert_eq!(
            (of_a_batch[0].index, of_a_batch[0].result),
            (0, Some(7)),
            "{of_a_batch:?}"
        );
        assert_eq!(
            (of_a_batch[1].status.as_str(), of_a_batch[2].result),
            ("error", None)
        );
        assert!(of_a_batch[1].error.is_some());
        let untyped: Vec<Instance<u32>> = step.dependency("work").expect("they fit too");
        assert_eq!(untyped, of_a_batch);
    }

    #[test]
    fn pages_follow_the_length_of_results() {
        assert_eq!(next_limit(50, 50 * 10), LARGEST_PAGE);
        assert_eq!(next_limit(50, 50 * 1024 * 1024), 4);
        assert_eq!(next_limit(1, usize::MAX), 1);
        assert_eq!(next_limit(0, 0), 1);
    }
}
