//! What changed between two looks at a task.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::output::plain;
use crate::watch::Snapshot;

/// A state in which the task or one of its steps was seen for the first time.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Change {
    seen_at: DateTime<Utc>,
    task_uuid: Uuid,
    /// None for a change of the task itself.
    step_uuid: Option<Uuid>,
    step: Option<String>,
    state: String,
    attempt: Option<i32>,
    error: Option<Box<RawValue>>,
}

/// Remembers what was seen.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    task_state: Option<String>,
    steps: HashMap<Uuid, (String, i32)>,
}

impl Changes {
    /// What is new in `snapshot`: the steps in their order, then the task.
    pub(crate) fn of(&mut self, snapshot: &Snapshot) -> Vec<Change> {
        let seen_at = Utc::now();
        let task = &snapshot.task;
        let mut changes = Vec::new();
        for step in &snapshot.steps {
            let now = (step.state.clone(), step.attempt);
            if self.steps.get(&step.step_uuid) == Some(&now) {
                continue;
            }
            changes.push(Change {
                seen_at,
                task_uuid: task.task_uuid,
                step_uuid: Some(step.step_uuid),
                step: Some(step.name.clone()),
                state: step.state.clone(),
                attempt: Some(step.attempt),
                error: step.error.clone(),
            });
            self.steps.insert(step.step_uuid, now);
        }
        if self.task_state.as_ref() != Some(&task.state) {
            changes.push(Change {
                seen_at,
                task_uuid: task.task_uuid,
                step_uuid: None,
                step: None,
                state: task.state.clone(),
                attempt: None,
                error: task.error.clone(),
            });
            self.task_state = Some(task.state.clone());
        }
        changes
    }
}

impl Change {
    /// `12:03:04.512Z validate_order in_progress (attempt 1)`.
    pub(crate) fn text(&self) -> String {
        let at = self.seen_at.format("%H:%M:%S%.3fZ");
        let who = self
            .step
            .clone()
            .unwrap_or_else(|| format!("task {}", self.task_uuid));
        let attempt = match self.attempt {
            Some(attempt) if attempt > 0 => format!(" (attempt {attempt})"),
            _ => String::new(),
        };
        let error = self
            .error
            .as_ref()
            .map(|error| format!(": {}", error.get()))
            .unwrap_or_default();
        plain(&format!("{at} {who} {}{attempt}{error}", self.state))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch::tree::tests::{step, task};

    #[test]
    fn only_what_is_new_is_a_change() {
        let mut changes = Changes::default();
        let first = Snapshot {
            task: task("steps_in_process"),
            steps: vec![step(1, "a", &[], "enqueued")],
        };
        assert_eq!(changes.of(&first).len(), 2);
        assert!(changes.of(&first).is_empty());

        let next = Snapshot {
            task: task("complete"),
            steps: vec![step(1, "a", &[], "complete")],
        };
        let texts: Vec<String> = changes.of(&next).iter().map(Change::text).collect();
        assert!(texts[0].contains(" a complete"), "{texts:?}");
        assert!(texts[1].ends_with(" complete"), "{texts:?}");
    }
}
