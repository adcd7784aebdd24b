//! History rows that stand for several transitions.
//!
//! A row stores the state before a transaction, the state after it, and what was passed through on the way: a list of
//! `event:state`, in order. The row's own event is the last one, and leads to the state after.

use std::str::FromStr;

use crate::step_state::StepState;
use crate::task_state::TaskState;

/// Whether a task's history row is a path of the task's state machine.
#[must_use]
pub fn is_task_path(from: &str, passed: &[String], event: &str, to: &str) -> bool {
    is_path(from, passed, event, to, TaskState::next)
}

/// Whether a step's history row is a path of the step's state machine.
#[must_use]
pub fn is_step_path(from: &str, passed: &[String], event: &str, to: &str) -> bool {
    is_path(from, passed, event, to, StepState::next)
}

fn is_path<S, E>(
    from: &str,
    passed: &[String],
    event: &str,
    to: &str,
    next: fn(S, E) -> Option<S>,
) -> bool
where
    S: FromStr + PartialEq + Copy,
    E: FromStr,
{
    let Ok(mut state) = from.parse::<S>() else {
        return false;
    };
    let passed = passed
        .iter()
        .map(|pair| pair.split_once(':').unwrap_or((pair, "")));
    for (event, reached) in passed.chain([(event, to)]) {
        let (Ok(event), Ok(reached)) = (event.parse::<E>(), reached.parse::<S>()) else {
            return false;
        };
        if next(state, event) != Some(reached) {
            return false;
        }
        state = reached;
    }
    true
}
