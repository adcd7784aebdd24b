//! OpenTelemetry traces of Tasker's programs.
//!
//! A trace's spans are `tracing` spans of the target [`TARGET`], at the level DEBUG, so that a log that listens to less doesn't show them. Where nobody records them they cost a look at a flag.
//!
//! | module | holds |
//! |---|---|
//! | `span` | spans, and the W3C form of which span of which trace they are |
//! | `options`, with the feature `export` | the settings of sending |
//! | `export`, with the feature `export` | recording, batching, and the end of both |
//! | `sender`, with the feature `export` | a batch's way to the collector |
#![warn(missing_docs)]

#[cfg(feature = "export")]
mod export;
#[cfg(feature = "export")]
mod options;
#[cfg(feature = "export")]
mod sender;
mod span;

#[cfg(feature = "export")]
pub use export::Exporting;
#[cfg(feature = "export")]
pub use options::{TraceOptions, TraceSetupError};
pub use span::{join, link, traceparent_of};
pub use tasker_client::Traceparent;
pub use tasker_client::traces::TARGET;
