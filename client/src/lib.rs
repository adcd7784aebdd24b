//! Typed functions over Tasker's SQL API, one error type, a listener for wake-ups.
//!
//! An application begins with [`Tasker`], which calls a database or a server by the same methods. In a transaction of the application's own, tasks are created by
//! [`create_task_in`](tasks::create_task_in) and [`create_tasks_in`](tasks::create_tasks_in).
//!
//! ```no_run
//! use tasker_client::{NewTask, Tasker, WaitOptions};
//!
//! # async fn order() -> Result<(), Box<dyn std::error::Error>> {
//! // Or "https://tasker.example.com": what follows is the same.
//! let tasker = Tasker::connect("postgres://app@localhost/shop").await?;
//! let task_uuid = tasker
//!     .create_task(&NewTask {
//!         template_name: "order_fulfillment".to_owned(),
//!         namespace: "shop".to_owned(),
//!         context: Some(serde_json::from_str(r#"{"order_id": "A-1001", "customer_email": "ada@example.com", "items": []}"#)?),
//!         idempotency_key: Some("order A-1001".to_owned()),
//!         ..NewTask::default()
//!     })
//!     .await?;
//! let finished = tasker.wait_for_task(task_uuid, WaitOptions::default()).await?;
//! for (step, result) in &finished.results {
//!     println!("{step}: {result}");
//! }
//! # Ok(())
//! # }
//! ```
//!
//! This is the only crate of the workspace that holds SQL text. Each function of the schema `tasker` has one method of the
//! same name on [`Client`]; nothing here decides anything, the database does.
//!
//! | module | functions |
//! |---|---|
//! | [`tasker`] | what an application needs, over SQL or REST; waiting for results, streams of events |
//! | `rest`, with the feature of that name | the same functions over REST |
//! | [`api_keys`] | make, list, revoke and check keys of callers of the server |
//! | [`acting`] | for whom a server calls |
//! | [`tasks`] | create, get and list tasks; their history and graph |
//! | [`steering`] | cancel, pause, resume and rerun tasks; why they stand where they stand, what undoes them |
//! | [`signals`] | send signals, list them |
//! | [`bulk`] | one action on many tasks |
//! | [`steps`] | list and get steps; their history |
//! | [`repair`] | reset, complete and resolve steps by hand |
//! | [`templates`] | register, validate, list, get and retire templates |
//! | [`workers`] | claim, finish, extend leases, register workers; list and retire them |
//! | [`dead_letters`] | list, get, open, resolve and count dead letters; tasks over their limits |
//! | [`schedules`] | create, list, pause, resume, delete and backfill schedules |
//! | [`namespaces`] | list, set, pause and resume namespaces; grants in them |
//! | [`statistics`] | figures of templates and steps, the slowest |
//! | [`checkpoints`] | what a handler keeps and asks while it runs |
//! | [`domain_events`] | subscribe to domain events, claim and finish deliveries, list what was published |
//! | [`events`] | list and follow the state changes of tasks and steps |
//! | [`operations`] | queues, health, maintenance, verification |
//! | [`traces`] | the trace that calls are a part of |
//! | [`wake_ups`] | wait for work without polling |
//! | [`db`] | prepare a database, see what it is prepared for |
//! | `tokens`, with the feature of that name | JSON Web Tokens, signed and read |
#![warn(missing_docs)]

pub mod acting;
pub mod api_keys;
pub mod bulk;
pub mod checkpoints;
mod connection;
pub mod db;
pub mod dead_letters;
pub mod domain_events;
mod ends;
mod error;
pub mod events;
mod listening;
pub mod namespaces;
pub mod operations;
mod pace;
pub mod repair;
#[cfg(feature = "rest")]
pub mod rest;
pub mod schedules;
pub mod signals;
pub mod sql_runner;
pub mod statistics;
pub mod steering;
pub mod steps;
mod storable;
pub mod tasker;
pub mod tasks;
pub mod templates;
#[cfg(feature = "tokens")]
pub mod tokens;
mod traced;
pub mod traces;
pub mod wake_ups;
pub mod workers;

pub use acting::Acting;
pub use api_keys::{ApiKey, NewApiKey};
pub use bulk::{BulkAction, BulkFilter, BulkJob, BulkMatches};
pub use checkpoints::{DependencyPage, DependencyResult};
pub use connection::{Client, ConnectOptions};
pub use db::{DatabaseStatus, database_status, init};
pub use dead_letters::{
    DeadLetter, DeadLetterCount, DeadLetterFilter, DeadLetterKey, Investigation, StaleTask,
};
pub use domain_events::{
    ClaimedEvent, Delivery, DeliveryStatus, DeliveryVerdict, DomainEvent, DomainEventFilter,
    EventClaim, EventNotice, EventNotices, PublishedDomainEvent, Subscription,
};
pub use error::{Cause, Details, Error};
pub use events::{Event, EventFilter, EventPage, EventSpan, Events};
pub use namespaces::{Namespace, NamespaceGrant};
pub use operations::{HealthCheck, JobRun, MaintenanceRun, OpenDeadLetters, QueueStats, Violation};
#[cfg(feature = "rest")]
pub use rest::{Credentials, RestClient, RestOptions};
pub use schedules::{NewSchedule, Schedule};
pub use signals::Signal;
pub use sql_runner::{SqlRunner, SqlStepRun};
pub use sqlx::{PgConnection, PgPool};
pub use statistics::{SlowStep, SlowTask, StatisticsFilter, StepStatistics};
pub use steering::{CancelOptions, Compensation, Explanation, RerunOptions};
pub use steps::Step;
pub use tasker::{
    EventStart, EventStream, FailedTask, FinishedTask, TaskError, Tasker, TaskerOptions, WaitError,
    WaitOptions,
};
pub use tasker_rules::domain_event::{BadPattern, EventPattern};
pub use tasker_rules::permission;
pub use tasker_rules::rounds;
pub use tasker_rules::traceparent::{BadTraceparent, Traceparent};
pub use tasks::{CreatedTask, GraphNode, HistoryRow, NewTask, Task, TaskFilter};
pub use templates::{Definition, Finding, RegisteredTemplate, Template, TemplateSummary};
pub use traced::Traced;
pub use wake_ups::{WakeUp, WakeUps};
pub use workers::{
    ClaimRequest, ClaimedStep, FinishRequest, Finished, HeldStep, LeaseState, LeaseVerdict,
    Outcome, OutcomeStatus, StepError, Verdict, VerdictKind, WorkLine, Worker, WorkerRegistration,
};
