//! The gRPC contract of Tasker: messages and services of the package `tasker.v1`, made from the files under `proto/`, and which operation each method is.
//!
//! It holds no rule and talks to nobody: the server is built on it, and so is a client.
#![warn(missing_docs)]

mod operations;

pub use operations::{ONLY_REST, OPERATIONS, Operation, WORK, operation_of};

/// The messages, servers and clients of the package `tasker.v1`.
#[allow(
    missing_docs,
    missing_debug_implementations,
    unreachable_pub,
    clippy::all,
    clippy::pedantic
)]
pub mod v1 {
    tonic::include_proto!("tasker.v1");
}

/// What the .proto files say, with their comments, as a `google.protobuf.FileDescriptorSet`.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
