//! The worker library of Tasker: register handlers by name, claim, run, finish.
//!
//! ```no_run
//! use serde_json::{Value, json};
//! use tasker_client::{Client, ConnectOptions};
//! use tasker_worker_runtime::{CancellationToken, HandlerError, StepContext, Worker};
//!
//! async fn greet(step: StepContext) -> Result<Value, HandlerError> {
//!     let name: String = step.context_field("name")?;
//!     Ok(json!({"greeting": format!("Good day, {name}!")}))
//! }
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::connect("postgres://localhost/app", ConnectOptions::default()).await?;
//! let worker = Worker::builder(client)
//!     .namespaces(["example"])
//!     .register("example.greet", greet)
//!     .build()?;
//! let shutdown = CancellationToken::new();
//! worker.run(shutdown).await?;
//! # Ok(())
//! # }
//! ```
//!
//! A worker holds nothing that matters: whatever it dies of, its steps are taken over when their
//! leases end. It lives on one task of the tokio runtime, which asks the database and hands steps
//! out; each handler runs on a task of its own.
//!
//! | module | what lives there |
//! |---|---|
//! | `builder` | settings, and what is wrong with them |
//! | `handler`, `handler_error`, `step_context`, `results` | what the author of a handler meets |
//! | `worker` | a worker ready to run: it registers and begins its shift |
//! | `shift` | the loop: it waits for what happens and starts calls |
//! | `board` | which steps run and which outcomes wait: plain bookkeeping |
//! | `schedule` | when to look for work: plain arithmetic on times |
//! | `upkeep` | when leases are extended and heartbeats sent: plain arithmetic on times |
//! | `execution` | one handler call: time limit, panic, stop |
//! | `calls` | the calls of the database, with their deadlines and repetitions |
//! | `event_handler` | what the author of a subscription to domain events meets |
//! | `deliveries` | the loop that takes domain events, beside the shift |
//! | `spans` | what shows in traces |
//! | `wake` | notifications of the database |
//! | `jitter` | chance |
#![warn(missing_docs)]

mod board;
mod builder;
mod calls;
mod deliveries;
mod event_handler;
mod execution;
mod handler;
mod handler_error;
mod jitter;
mod prefetch;
mod results;
mod schedule;
mod shift;
mod spans;
mod step_context;
mod upkeep;
mod wake;
mod worker;

pub use builder::{BuildError, WorkerBuilder};
pub use calls::CallError;
pub use event_handler::{EventFuture, EventHandler};
pub use handler::{Answer, Handler, HandlerFuture};
pub use handler_error::HandlerError;
pub use results::{Batch, Decision, Instance};
pub use schedule::WakeMode;
pub use step_context::{InputError, StepContext};
pub use tasker_client::{DependencyPage, DependencyResult, DomainEvent, Traceparent};
/// Stops a worker: cancel it and [`Worker::run`] gives its steps back and returns.
pub use tokio_util::sync::CancellationToken;
pub use worker::{RunError, Worker};
