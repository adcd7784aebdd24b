//! The state machines, asked by SQL. They live in `tasker_rules`.

use pgrx::pg_extern;
use tasker_rules::step_state::StepState;
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
fn _is_task_path(
    from_state: &str,
    passed_through: Vec<String>,
    event: &str,
    to_state: &str,
) -> bool {
    unroll::is_task_path(from_state, &passed_through, event, to_state)
}

/// Whether a stored history row of a step is a path of the machine; `passed_through` lists `event:state`.
#[pg_extern(immutable, parallel_safe)]
fn _is_step_path(
    from_state: &str,
    passed_through: Vec<String>,
    event: &str,
    to_state: &str,
) -> bool {
    unroll::is_step_path(from_state, &passed_through, event, to_state)
}

/// Whether a task's or a step's state is terminal; the two machines agree on the names they share.
#[pg_extern(immutable, parallel_safe)]
fn _is_terminal(state: &str) -> bool {
    state.parse::<TaskState>().is_ok_and(TaskState::is_terminal)
        || state.parse::<StepState>().is_ok_and(StepState::is_terminal)
}

/// One for a state of a step that its task's counter `running` counts, else zero.
#[pg_extern(immutable, parallel_safe)]
fn _counts_running(state: &str) -> i32 {
    let counts = matches!(
        state.parse(),
        Ok(StepState::Enqueued
            | StepState::InProgress
            | StepState::EnqueuedForOrchestration
            | StepState::EnqueuedAsErrorForOrchestration)
    );
    i32::from(counts)
}
