//! Dead letters of instances that are isolated: opened with the change that fails them for good. Not here: those of tasks, which are opened when a task's state is decided.

use pgrx::pg_sys;

use super::Call;
use crate::error::Error;
use crate::statements::Statement;
use crate::values::Value;

/// A schema without this function has no instances either.
const OPEN: Statement = Statement {
    name: "open_step_dead_letters",
    text: "select {}($1, $2, $3)",
    rows: None,
    parameters: &[
        pg_sys::UUIDARRAYOID,
        pg_sys::TIMESTAMPTZOID,
        pg_sys::TEXTOID,
    ],
};

/// Opens one for each of the steps, whose rows and history are written, and which are locked.
pub(super) fn open(call: &Call, steps: &[u128]) -> Result<(), Error> {
    if steps.is_empty() {
        return Ok(());
    }
    let values = [
        Value::uuids(steps),
        Value::time(call.now),
        Value::text(call.actor),
    ];
    call.session
        .run(&OPEN, "tasker._open_step_dead_letters", &values)
}
