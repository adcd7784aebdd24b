//! `tasker-ctl task watch`: a task followed until it ends.
//!
//! On a terminal the tree of its steps is drawn again as they change; elsewhere each change is a line. That something has changed is told by the feed of events.

mod change;
mod news;
mod screen;
mod tree;

use std::io::IsTerminal;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tasker_client::{Client, Error, Step, Task};
use tasker_rules::task_state::TaskState;
use uuid::Uuid;

use crate::failure::Failure;
use crate::output::{self, Output};
use change::Changes;
use news::News;
use screen::Screen;

/// How often a terminal is drawn anew while nothing changes: times go on.
const DRAWN_EVERY: Duration = Duration::from_secs(1);
/// How often it is looked at while the database is away.
const PERIOD_WHILE_AWAY: Duration = Duration::from_secs(1);

/// A task and its steps at one time.
#[derive(Debug)]
pub(crate) struct Snapshot {
    pub(crate) task: Task,
    pub(crate) steps: Vec<Step>,
}

/// How what is seen is shown.
enum View {
    Screen(Screen),
    Lines(Changes),
    /// Each change a document of its own.
    Data(Output, Changes),
}

impl View {
    fn new(output: Output) -> Self {
        if output.is_data() {
            return Self::Data(output, Changes::default());
        }
        if std::io::stdout().is_terminal() {
            return Self::Screen(Screen::new());
        }
        Self::Lines(Changes::default())
    }

    fn show(&mut self, snapshot: &Snapshot) -> Result<(), Failure> {
        match self {
            Self::Screen(screen) => screen.draw(snapshot, Utc::now()),
            Self::Lines(changes) => changes
                .of(snapshot)
                .iter()
                .try_for_each(|change| output::line(&change.text())),
            Self::Data(output, changes) => changes.of(snapshot).iter().try_for_each(|change| {
                if output.is_json() {
                    return output::line(&serde_json::to_string(change)?);
                }
                output::line("---")?;
                output.show(change, String::new)
            }),
        }
    }
}

/// Follows the task until it has ended or waits for an operator; fails when that isn't success.
pub(crate) async fn run(client: &Client, task_uuid: Uuid, output: Output) -> Result<(), Failure> {
    let mut view = View::new(output);
    let mut news = News::of(client, task_uuid);
    let mut is_away = false;
    loop {
        match look(client, &mut news, task_uuid).await {
            Ok(snapshot) => {
                is_away = false;
                view.show(&snapshot)?;
                if let Some(end) = end_of(&snapshot.task) {
                    return end;
                }
                wait(&mut news, &mut view, &snapshot).await?;
            }
            Err(error) if error.is_transient() => {
                if !is_away {
                    eprintln!("{}; trying again", Failure::from(error).text());
                }
                is_away = true;
                tokio::time::sleep(PERIOD_WHILE_AWAY).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Waits until the task is to be looked at again.
async fn wait(news: &mut News<'_>, view: &mut View, snapshot: &Snapshot) -> Result<(), Failure> {
    let mut waits = std::pin::pin!(news.wait());
    loop {
        tokio::select! {
            () = &mut waits => return Ok(()),
            () = tokio::time::sleep(DRAWN_EVERY), if matches!(view, View::Screen(_)) => view.show(snapshot)?,
        }
    }
}

/// The task is read before its steps, so that a task seen as ended is never shown with steps that run.
async fn look(client: &Client, news: &mut News<'_>, task_uuid: Uuid) -> Result<Snapshot, Error> {
    news.begin().await?;
    let task = client.get_task(task_uuid).await?;
    let steps = client.list_steps(task_uuid).await?;
    Ok(Snapshot { task, steps })
}

/// How the watch ends, if this state ends it.
fn end_of(task: &Task) -> Option<Result<(), Failure>> {
    let ended = || Some(Err(Failure::TaskEnded(task.state.clone())));
    match task.state.parse::<TaskState>() {
        Ok(TaskState::Complete | TaskState::ResolvedManually) => Some(Ok(())),
        Ok(TaskState::BlockedByFailures) => ended(),
        Ok(state) if state.is_terminal() => ended(),
        // A state this program doesn't know comes from a newer database and may end by itself.
        _ => task.finished_at.and_then(|_| ended()),
    }
}

/// How long the last attempt took, or takes so far.
pub(crate) fn step_duration(step: &Step, now: DateTime<Utc>) -> Option<TimeDelta> {
    let started_at = step.started_at?;
    match (step.finished_at, step.state.as_str()) {
        (Some(finished_at), _) => Some(finished_at - started_at),
        (None, "in_progress") => Some(now - started_at),
        (None, _) => None,
    }
}
