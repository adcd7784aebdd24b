//! What the instances of a batch or a map are given, and the steps that they are made by.

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{InputError, StepContext, read};

impl StepContext {
    /// One field of [`StepContext::inputs`].
    pub fn input<T: DeserializeOwned>(&self, name: &str) -> Result<T, InputError> {
        let value = self.inputs().get(name);
        let value = value.ok_or_else(|| InputError::NoInput { name: name.into() })?;
        read(value, || format!("the input `{name}`"))
    }

    /// The part of the work that is this instance's of a batch.
    pub fn cursor<T: DeserializeOwned>(&self) -> Result<T, InputError> {
        self.input("cursor")
    }

    /// The element that is this instance's of a map.
    pub fn item<T: DeserializeOwned>(&self) -> Result<T, InputError> {
        self.input("item")
    }

    /// The place of this instance of a batch or a map, from 0.
    pub fn index(&self) -> Result<u32, InputError> {
        self.input("index")
    }

    /// How many instances the batch or the map has.
    pub fn total(&self) -> Result<u32, InputError> {
        self.input("total")
    }

    /// The `batch_config` of a batchable step; null for other ones.
    #[must_use]
    pub fn batch_config(&self) -> &Value {
        &self.data.batch_config
    }

    /// How many items an instance is to work on, of a batchable step whose template says it.
    #[must_use]
    pub fn batch_size(&self) -> Option<u32> {
        let size = self.batch_config().get("batch_size")?.as_u64()?;
        u32::try_from(size).ok()
    }

    /// What an earlier attempt stored to go on from; `None` when none did.
    pub fn checkpoint_as<T: DeserializeOwned>(&self) -> Result<Option<T>, InputError> {
        self.checkpoint()
            .map(|checkpoint| read(checkpoint, || "the checkpoint".into()))
            .transpose()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn step() -> StepContext {
        StepContext::draft("work_000002", "t.work")
    }

    #[test]
    fn an_instance_reads_its_cursor_and_its_place() {
        let step = step().with_inputs(json!({"cursor": {"from": 5}, "index": 1, "total": 3}));
        let cursor: Value = step.cursor().expect("it has one");
        assert_eq!(cursor, json!({"from": 5}));
        assert_eq!((step.index().ok(), step.total().ok()), (Some(1), Some(3)));
        let error = step.item::<Value>().expect_err("it is of no map");
        assert_eq!(error.to_string(), "the step has no input `item`");
    }

    #[test]
    fn the_size_of_a_batch_is_read_where_the_template_says_it() {
        assert_eq!(step().batch_size(), None);
        let step = step().with_batch_config(json!({"batch_size": 200, "parallelism": null}));
        assert_eq!(step.batch_size(), Some(200));
    }

    #[test]
    fn a_checkpoint_is_there_from_the_second_time_on() {
        assert_eq!(step().checkpoint_as::<u32>().expect("none fits"), None);
        let step = step().with_checkpoint(json!(7));
        assert_eq!(step.checkpoint_as::<u32>().expect("it fits"), Some(7));
        assert!(step.checkpoint_as::<String>().is_err());
    }
}
