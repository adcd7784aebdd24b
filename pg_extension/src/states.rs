//! The state machines, asked by SQL. They live in `tasker_rules`.

use pgrx::pg_extern;
use tasker_rules::task_state::{TaskEvent, TaskState};
use tasker_rules::unroll;

/// Where a task's event leads; null where the machine has no such transition.
#[pg_extern(immutable, parallel_safe)]
fn _next_task_state(state: &str, event: &str) -> Option<&'static str> {
    let state: TaskState = state.parse().ok()?;
    let event: TaskEvent = event.parse().ok()?;
    state.next(event).map(TaskState::as_str)
}

/// Whether a stored history row of a task is a path of the machine; `passed_through` lists `event:state`.
#[pg_extern(immutable, parallel_safe)]
fn _is_task_path(from_state: &str, passed_through: Vec<String>, event: &str, to_state: &str) -> bool {
    unroll::is_task_path(from_state, &passed_through, event, to_state)
}

/// Whether a stored history row of a step is a path of the machine; `passed_through` lists `event:state`.
#[pg_extern(immutable, parallel_safe)]
fn _is_step_path(from_state: &str, passed_through: Vec<String>, event: &str, to_state: &str) -> bool {
    unroll::is_step_path(from_state, &passed_through, event, to_state)
}
