//! Where tasks come to a stand, as the feed of events tells it.

use tasker_rules::task_state::TaskState;
use uuid::Uuid;

use crate::connection::Client;
use crate::error::Error;
use crate::events::{Event, EventFilter, EventSpan};

/// Events that are read at once.
const PAGE: u32 = 500;

/// Whether nothing moves a task by itself from a state: it has ended, or an operator is to decide.
pub(crate) fn stands_still(state: &str) -> bool {
    state
        .parse::<TaskState>()
        .is_ok_and(|state| state.is_terminal() || state == TaskState::BlockedByFailures)
}

impl Event {
    /// Whether by this event its task has come to where nothing moves it by itself.
    pub(crate) fn task_stands_still(&self) -> bool {
        self.step_uuid.is_none() && stands_still(&self.to_state)
    }
}

impl Client {
    /// Whether a task had come to its end at a cursor, and nothing has happened to it since, not even what hasn't settled yet: then there is nothing to wait for after that cursor. TK001 when the task isn't there,
    /// 22023 when the cursor is none.
    pub async fn task_had_ended(&self, task_uuid: Uuid, cursor: &str) -> Result<bool, Error> {
        let filter = EventFilter {
            task_uuid: Some(task_uuid),
            ..EventFilter::default()
        };
        let later = EventSpan {
            after: Some(cursor),
            until: None,
            limit: Some(1),
        };
        // A cursor within what was listed at once stands for all of that as a bound.
        if !self.list_events(&filter, later).await?.is_empty() {
            return Ok(false);
        }
        let history = self.task_history(task_uuid).await?;
        let (mut after, mut last_own) = (None::<String>, None::<Event>);
        loop {
            let span = EventSpan {
                after: after.as_deref(),
                until: Some(cursor),
                limit: Some(PAGE),
            };
            let mut events = self.list_events(&filter, span).await?;
            after = events.last().map(|event| event.cursor.clone());
            let is_end = events.len() < PAGE as usize;
            events.retain(|event| event.step_uuid.is_none());
            last_own = events.pop().or(last_own);
            if is_end {
                break;
            }
        }
        let is_last_of_all = last_own.is_some_and(|event| {
            event.task_end().is_some()
                && history
                    .last()
                    .is_some_and(|row| row.at == event.at && row.event == event.event)
        });
        Ok(is_last_of_all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_stands_still_at_its_end_and_when_an_operator_is_to_decide() {
        for state in [
            "complete",
            "error",
            "cancelled",
            "resolved_manually",
            "blocked_by_failures",
        ] {
            assert!(stands_still(state), "{state}");
        }
        for state in [
            "pending",
            "steps_in_process",
            "waiting_for_retry",
            "waiting_for_dependencies",
            "",
        ] {
            assert!(!stands_still(state), "{state}");
        }
    }
}
