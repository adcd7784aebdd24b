//! Waiting for a task's end.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use uuid::Uuid;

use super::lookout::Waiting;
#[cfg(feature = "rest")]
use super::{EventStart, EventStream};
use super::{Tasker, Transport};
use crate::ends::stands_still;
use crate::error::Error;
#[cfg(feature = "rest")]
use crate::events::EventFilter;
use crate::tasks::{GraphNode, Task};

/// The first and the longest pause before a task is looked at though nothing was heard of it: an event settles late where somebody's long transaction holds the feed, and may not be to be had at all.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

const COMPLETE: &str = "complete";
const RESOLVED: &str = "resolved_manually";
const CANCELLED: &str = "cancelled";
const BLOCKED: &str = "blocked_by_failures";

/// How a task's end is waited for. The default waits as long as it takes, and no longer than until an operator is asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WaitOptions {
    /// Not longer than this; without an end when left out.
    pub timeout: Option<Duration>,
    /// A task that is blocked by failures is waited for as well, until an operator has decided what becomes of it.
    pub while_blocked: bool,
}

/// A task that has come to a good end.
#[derive(Debug, Clone)]
pub struct FinishedTask {
    /// The task, `complete` or `resolved_manually`.
    pub task: Task,
    /// What it came to: the results of its last steps, those that no other step waits for, by their names. Null of one that has none.
    pub results: BTreeMap<String, Box<RawValue>>,
}

impl FinishedTask {
    /// The result of one of its last steps as a value of one's own; `None` when it has no such last step.
    #[must_use]
    pub fn result<T: DeserializeOwned>(&self, step: &str) -> Option<Result<T, serde_json::Error>> {
        let result = self.results.get(step)?;
        Some(serde_json::from_str(result.get()))
    }
}

/// Why a task failed: the error of the first step that did, or what is said of its time.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct TaskError {
    /// In words.
    #[serde(default)]
    pub message: String,
    /// A word for its kind, of the handler's or Tasker's (`lease_expired`, `staleness_timeout`, …).
    pub r#type: Option<String>,
    /// The name of the step.
    pub step_name: Option<String>,
    /// The key of the step.
    pub step_uuid: Option<Uuid>,
    /// Whether another attempt might have helped.
    pub retryable: Option<bool>,
    /// What the handler told besides.
    pub detail: Option<Box<RawValue>>,
}

impl TaskError {
    fn of(task: &Task) -> Self {
        let Some(json) = &task.error else {
            return Self {
                message: "nothing is said of why".to_owned(),
                ..Self::default()
            };
        };
        serde_json::from_str(json.get()).unwrap_or_else(|_| Self {
            message: json.get().to_owned(),
            ..Self::default()
        })
    }
}

/// A task that failed.
#[derive(Debug, Clone)]
pub struct FailedTask {
    /// The task.
    pub task: Task,
    /// Why.
    pub error: TaskError,
}

impl From<Task> for FailedTask {
    fn from(task: Task) -> Self {
        Self {
            error: TaskError::of(&task),
            task,
        }
    }
}

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WaitError {
    /// It ended in `error`.
    #[error("task {} failed: {}", .0.task.task_uuid, .0.error.message)]
    Failed(Box<FailedTask>),
    /// It was cancelled.
    #[error("task {} was cancelled", .0.task_uuid)]
    Cancelled(Box<Task>),
    /// It is in `blocked_by_failures`: a step failed for good, and an operator is to decide. It may still come to a good end.
    #[error("task {} is blocked by failures: {}", .0.task.task_uuid, .0.error.message)]
    Blocked(Box<FailedTask>),
    /// It goes on, and can be waited for again.
    #[error("task {task_uuid} hasn't ended within {} ms", .waited.as_millis())]
    TimedOut {
        /// The task.
        task_uuid: Uuid,
        /// How long it was waited for.
        waited: Duration,
    },
    /// It couldn't be asked for: TK001 when it isn't there.
    #[error(transparent)]
    Call(#[from] Error),
}

impl WaitError {
    /// Why the task failed, if it did.
    #[must_use]
    pub fn task_error(&self) -> Option<&TaskError> {
        match self {
            Self::Failed(failed) | Self::Blocked(failed) => Some(&failed.error),
            Self::Cancelled(_) | Self::TimedOut { .. } | Self::Call(_) => None,
        }
    }
}

impl Tasker {
    /// Waits until a task has ended, and gives what it came to.
    ///
    /// | the task's state | what becomes of the wait |
    /// |---|---|
    /// | `complete`, `resolved_manually` | it gives the task and the results of its last steps |
    /// | `error` | [`WaitError::Failed`], with the task's error |
    /// | `cancelled` | [`WaitError::Cancelled`] |
    /// | `blocked_by_failures` | [`WaitError::Blocked`], unless [`WaitOptions::while_blocked`] |
    /// | any other, also while it is paused | it goes on |
    ///
    /// It is told of the end as the feed of events tells it, soon after it has committed, and looks at the task once when it begins and ever more seldom after that, up to every half minute. All waits of a [`Tasker`] and its clones
    /// take one connection to a database; over REST each takes one to the server. A database or a server that goes away meanwhile is waited for; one that can't be reached at the beginning is an
    /// error. May be dropped at any time, and repeated.
    ///
    /// Over REST the permissions `tasks:read` and `steps:read` are needed.
    pub async fn wait_for_task(
        &self,
        task_uuid: Uuid,
        options: WaitOptions,
    ) -> Result<FinishedTask, WaitError> {
        let waiting = self.standing_still(task_uuid, options.while_blocked);
        let task = match options.timeout {
            None => waiting.await?,
            Some(timeout) => match tokio::time::timeout(timeout, waiting).await {
                Ok(task) => task?,
                Err(_) => {
                    return Err(WaitError::TimedOut {
                        task_uuid,
                        waited: timeout,
                    });
                }
            },
        };
        match task.state.as_str() {
            COMPLETE | RESOLVED => {
                let results = self.results_of(&task).await?;
                Ok(FinishedTask { task, results })
            }
            CANCELLED => Err(WaitError::Cancelled(Box::new(task))),
            BLOCKED => Err(WaitError::Blocked(Box::new(task.into()))),
            _ => Err(WaitError::Failed(Box::new(task.into()))),
        }
    }

    async fn standing_still(&self, task_uuid: Uuid, while_blocked: bool) -> Result<Task, Error> {
        let stands =
            |task: &Task| stands_still(&task.state) && !(while_blocked && task.state == BLOCKED);
        let task = self.get_task(task_uuid).await?;
        if stands(&task) {
            return Ok(task);
        }
        let mut news = self.news_of(task_uuid);
        let mut pause = FIRST_PAUSE;
        loop {
            let mut heard = std::pin::pin!(news.next());
            let mut is_heard = false;
            while !is_heard {
                tokio::select! {
                    () = &mut heard => is_heard = true,
                    () = tokio::time::sleep(pause) => pause = (pause * 2).min(LONGEST_PAUSE),
                }
                match self.get_task(task_uuid).await {
                    Ok(task) if stands(&task) => return Ok(task),
                    Ok(_) => {}
                    Err(error) if error.is_transient() => {
                        tracing::debug!(%error, %task_uuid, "a task that is waited for can't be looked at now");
                    }
                    Err(error) => return Err(error),
                }
            }
        }
    }

    /// The results of the last steps that were satisfied.
    async fn results_of(&self, task: &Task) -> Result<BTreeMap<String, Box<RawValue>>, Error> {
        let is_last = |node: &GraphNode| {
            let state = node.state.as_deref();
            node.dependents.is_empty()
                && state.is_some_and(|state| [COMPLETE, RESOLVED].contains(&state))
        };
        let graph = self.task_graph(task.task_uuid).await?;
        let mut results = BTreeMap::new();
        for node in graph.into_iter().filter(is_last) {
            if let Some(step_uuid) = node.step_uuid {
                let result = self.get_step(step_uuid).await?.result;
                results.insert(
                    node.name,
                    result.unwrap_or_else(|| RawValue::NULL.to_owned()),
                );
            }
        }
        Ok(results)
    }

    fn news_of(&self, task_uuid: Uuid) -> News {
        match &self.transport {
            Transport::Sql(client, lookout) => News::Sql(lookout.wait_for(client, task_uuid)),
            #[cfg(feature = "rest")]
            Transport::Rest(_) => {
                let filter = EventFilter {
                    task_uuid: Some(task_uuid),
                    ..EventFilter::default()
                };
                News::Rest(Box::new(RestNews {
                    events: self.events(filter, EventStart::Now),
                    has_begun: false,
                }))
            }
        }
    }
}

/// What tells that a task may have come to a stand.
enum News {
    Sql(Waiting),
    #[cfg(feature = "rest")]
    Rest(Box<RestNews>),
    /// Nothing does: the task is only looked at now and then.
    Silent,
}

impl News {
    /// Returns when the task is to be looked at: also once its place in the feed is taken, since what came about before isn't told.
    async fn next(&mut self) {
        let heard = match self {
            Self::Sql(waiting) => waiting.news().await.map(|()| true),
            #[cfg(feature = "rest")]
            Self::Rest(news) => news.next().await,
            Self::Silent => std::future::pending().await,
        };
        match heard {
            Ok(true) => {}
            // Whoever revives a task that had ended isn't told of again.
            Ok(false) => *self = Self::Silent,
            // The feed is tried again at the next call.
            Err(error) if error.is_transient() => tokio::time::sleep(FIRST_PAUSE).await,
            Err(error) => {
                tracing::debug!(%error, "the feed of events can't be had; a task that is waited for is looked at now and then");
                *self = Self::Silent;
            }
        }
    }
}

/// The stream of a task.
#[cfg(feature = "rest")]
struct RestNews {
    events: EventStream,
    has_begun: bool,
}

#[cfg(feature = "rest")]
impl RestNews {
    /// True when the task is to be looked at; false when it is and nothing more will be told.
    async fn next(&mut self) -> Result<bool, Error> {
        if !self.has_begun {
            self.events.begin().await?;
            self.has_begun = true;
            return Ok(true);
        }
        while let Some(event) = self.events.next().await {
            if event?.task_stands_still() {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
