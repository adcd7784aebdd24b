//! The state machines, asked by SQL. They live in `tasker_rules`.

use pgrx::iter::TableIterator;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{name, pg_extern};
use tasker_rules::history::{Machine, Steps, Tasks, decode, encode};
use tasker_rules::step_state::{StepEvent, StepState};
use tasker_rules::task_state::{TaskEvent, TaskState};

use crate::error::Error;

/// Where a task's event leads; null where the machine has no such transition.
#[pg_extern(immutable, parallel_safe)]
fn _next_task_state(state: &str, event: &str) -> Option<&'static str> {
    let state: TaskState = state.parse().ok()?;
    let event: TaskEvent = event.parse().ok()?;
    state.next(event).map(TaskState::as_str)
}

/// The single transitions of a task's stored path; no rows when it is no path of the machine.
#[pg_extern(immutable, parallel_safe)]
fn _unroll_task(
    path: &str,
) -> TableIterator<
    'static,
    (
        name!(ordinal, i32),
        name!(from_state, &'static str),
        name!(to_state, &'static str),
        name!(event, &'static str),
    ),
> {
    TableIterator::new(unroll::<Tasks>(path, TaskState::as_str, TaskEvent::as_str))
}

/// The single transitions of a step's stored path; no rows when it is no path of the machine.
#[pg_extern(immutable, parallel_safe)]
fn _unroll_step(
    path: &str,
) -> TableIterator<
    'static,
    (
        name!(ordinal, i32),
        name!(from_state, &'static str),
        name!(to_state, &'static str),
        name!(event, &'static str),
    ),
> {
    TableIterator::new(unroll::<Steps>(path, StepState::as_str, StepEvent::as_str))
}

/// A task's path as it is stored: the state it begins in and the events.
#[pg_extern(immutable, parallel_safe)]
fn _task_path(from_state: &str, events: Vec<String>) -> Result<String, ErrorReport> {
    let events: Result<Vec<TaskEvent>, _> = events.iter().map(|event| event.parse()).collect();
    let path = from_state
        .parse()
        .and_then(|from| Ok(encode::<Tasks>(from, &events?)));
    Ok(path.map_err(Error::from)?)
}

/// A transition as a row: its place in the path, the states and the event.
type Row = (i32, &'static str, &'static str, &'static str);

fn unroll<M: Machine>(
    path: &str,
    state: fn(M::State) -> &'static str,
    event: fn(M::Event) -> &'static str,
) -> Vec<Row> {
    (1..)
        .zip(decode::<M>(path).unwrap_or_default())
        .map(|(ordinal, step)| (ordinal, state(step.from), state(step.to), event(step.event)))
        .collect()
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
    let counts = state.parse().is_ok_and(StepState::counts_as_running);
    i32::from(counts)
}
