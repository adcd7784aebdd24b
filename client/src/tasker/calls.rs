//! The calls. Each is the same function of the database, called by its client or by a server.

use serde_json::value::RawValue;
use uuid::Uuid;

use super::{Tasker, Transport};
use crate::error::Error;
use crate::signals::Signal;
use crate::steering::{CancelOptions, Compensation, Explanation, RerunOptions};
use crate::steps::Step;
use crate::tasks::{CreatedTask, GraphNode, HistoryRow, NewTask, Task, TaskFilter};

/// A call over the transport that there is.
macro_rules! over {
    ($tasker:expr, $transport:ident => $call:expr) => {
        match &$tasker.transport {
            Transport::Sql($transport, _) => $call.await,
            #[cfg(feature = "rest")]
            Transport::Rest($transport) => $call.await,
        }
    };
}

/// Tasks.
impl Tasker {
    /// Creates a task and returns its key; with an idempotency key that was used for the same request, the key of the task that exists. Without one a call whose answer was lost may have created it.
    pub async fn create_task(&self, task: &NewTask) -> Result<Uuid, Error> {
        over!(self, transport => transport.create_task(task))
    }

    /// Creates any number of tasks in one transaction: all or none.
    pub async fn create_tasks(&self, tasks: &[NewTask]) -> Result<Vec<CreatedTask>, Error> {
        over!(self, transport => transport.create_tasks(tasks))
    }

    /// A task as it is now; TK001 when there is none.
    pub async fn get_task(&self, task_uuid: Uuid) -> Result<Task, Error> {
        over!(self, transport => transport.get_task(task_uuid))
    }

    /// Tasks, newest first, a page at a time; at most 1000. Over REST a tag with a comma can't be asked for.
    pub async fn list_tasks(&self, filter: &TaskFilter) -> Result<Vec<Task>, Error> {
        over!(self, transport => transport.list_tasks(filter))
    }

    /// Every transition of a task, oldest first.
    pub async fn task_history(&self, task_uuid: Uuid) -> Result<Vec<HistoryRow>, Error> {
        over!(self, transport => transport.task_history(task_uuid))
    }

    /// The steps of a task with their edges and states, in topological order.
    pub async fn task_graph(&self, task_uuid: Uuid) -> Result<Vec<GraphNode>, Error> {
        over!(self, transport => transport.task_graph(task_uuid))
    }

    /// For each step of a task that has neither succeeded nor been cancelled: why it doesn't go on and until when, or who runs it.
    pub async fn explain_task(&self, task_uuid: Uuid) -> Result<Vec<Explanation>, Error> {
        over!(self, transport => transport.explain_task(task_uuid))
    }

    /// What undoes the steps of a task that failed or was cancelled, in the order in which it runs; empty before that.
    pub async fn list_compensations(&self, task_uuid: Uuid) -> Result<Vec<Compensation>, Error> {
        over!(self, transport => transport.list_compensations(task_uuid))
    }
}

/// Tasks steered.
impl Tasker {
    /// Cancels a task and what it has not finished. True when this call did it, false when it was cancelled before; TK010 when it has
    /// ended otherwise.
    pub async fn cancel_task(&self, task_uuid: Uuid, reason: Option<&str>) -> Result<bool, Error> {
        let options = CancelOptions {
            reason,
            ..CancelOptions::default()
        };
        self.cancel_task_with(task_uuid, options).await
    }

    /// [`Tasker::cancel_task`] with all its options.
    pub async fn cancel_task_with(
        &self,
        task_uuid: Uuid,
        options: CancelOptions<'_>,
    ) -> Result<bool, Error> {
        over!(self, transport => transport.cancel_task_with(task_uuid, options))
    }

    /// Pauses a task: its running steps finish, all others wait. True when this call did it, false when it was paused before; TK010
    /// when it has ended.
    pub async fn pause_task(&self, task_uuid: Uuid, reason: Option<&str>) -> Result<bool, Error> {
        over!(self, transport => transport.pause_task(task_uuid, reason))
    }

    /// Resumes a paused task. True when this call did it, false when it wasn't paused.
    pub async fn resume_task(&self, task_uuid: Uuid) -> Result<bool, Error> {
        over!(self, transport => transport.resume_task(task_uuid))
    }

    /// Runs a task that has ended, or is blocked by failures, anew in place; the results of other steps are kept. TK010 while it goes on.
    pub async fn rerun_task(&self, task_uuid: Uuid, options: &RerunOptions) -> Result<(), Error> {
        over!(self, transport => transport.rerun_task(task_uuid, options))
    }

    /// Sends a signal to a task, once. True when this call sent it, false when it had been sent before, whose payload stays. TK004 for a name that no step waits for, TK010 and TK012 for a task that
    /// has ended, TK021 for a payload that doesn't satisfy the step's schema.
    pub async fn send_signal(
        &self,
        task_uuid: Uuid,
        name: &str,
        payload: Option<&RawValue>,
    ) -> Result<bool, Error> {
        over!(self, transport => transport.send_signal(task_uuid, name, payload))
    }

    /// The signals that a task's steps wait for at some time, in the order of the graph, and what was sent. A payload of null is `None`.
    pub async fn list_signals(&self, task_uuid: Uuid) -> Result<Vec<Signal>, Error> {
        let mut signals = over!(self, transport => transport.list_signals(task_uuid))?;
        for signal in &mut signals {
            without_null(&mut signal.payload);
        }
        Ok(signals)
    }
}

/// Steps. A result, inputs or a checkpoint of null are `None`.
impl Tasker {
    /// The steps of a task, in topological order; TK001 when there is no such task.
    pub async fn list_steps(&self, task_uuid: Uuid) -> Result<Vec<Step>, Error> {
        let mut steps = over!(self, transport => transport.list_steps(task_uuid))?;
        steps.iter_mut().for_each(without_nulls);
        Ok(steps)
    }

    /// A step as it is now; TK002 when there is none.
    pub async fn get_step(&self, step_uuid: Uuid) -> Result<Step, Error> {
        let mut step = over!(self, transport => transport.get_step(step_uuid))?;
        without_nulls(&mut step);
        Ok(step)
    }

    /// Every transition of a step, oldest first.
    pub async fn step_history(&self, step_uuid: Uuid) -> Result<Vec<HistoryRow>, Error> {
        over!(self, transport => transport.step_history(step_uuid))
    }

    /// Lets a step that failed, or that its task's failure cancelled, be tried again from its first attempt. TK002 when there is none,
    /// TK010 from any other state.
    pub async fn reset_step(&self, step_uuid: Uuid, reason: Option<&str>) -> Result<(), Error> {
        over!(self, transport => transport.reset_step(step_uuid, reason))
    }

    /// Completes a step that has not ended, or failed, with a result given by hand; a worker that runs it loses its lease. TK021 when
    /// the result doesn't satisfy the step's schema.
    pub async fn complete_step_manually(
        &self,
        step_uuid: Uuid,
        result: &RawValue,
        reason: Option<&str>,
    ) -> Result<(), Error> {
        over!(self, transport => transport.complete_step_manually(step_uuid, result, reason))
    }

    /// Settles a step that has not ended, or failed, without a result: its dependents see null.
    pub async fn resolve_step(&self, step_uuid: Uuid, reason: Option<&str>) -> Result<(), Error> {
        over!(self, transport => transport.resolve_step(step_uuid, reason))
    }
}

/// A row in JSON doesn't tell a column without a value from one whose value is null.
fn without_null(value: &mut Option<Box<RawValue>>) {
    if value.as_ref().is_some_and(|json| json.get() == "null") {
        *value = None;
    }
}

fn without_nulls(step: &mut Step) {
    for value in [
        &mut step.handler,
        &mut step.inputs,
        &mut step.result,
        &mut step.error,
        &mut step.checkpoint,
    ] {
        without_null(value);
    }
}
