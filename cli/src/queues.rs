//! `tasker-ctl queue`.

use chrono::TimeDelta;
use clap::Subcommand;
use tasker_client::{Client, QueueStats};

use crate::failure::Failure;
use crate::output::{self, Output};

#[derive(Debug, Subcommand)]
pub(crate) enum QueueCommand {
    /// List the queues: what can be claimed, what is hidden, how old the oldest message is
    #[command(after_help = "Example:\n  tasker-ctl queue list -o json")]
    List,
}

pub(crate) async fn run(
    command: QueueCommand,
    client: &Client,
    output: Output,
) -> Result<(), Failure> {
    match command {
        QueueCommand::List => {
            let queues = client.queue_stats().await?;
            output.show(&queues, || table(&queues))
        }
    }
}

pub(crate) fn table(queues: &[QueueStats]) -> String {
    let rows = queues.iter().map(|queue| {
        [
            queue.namespace.clone(),
            queue.queue_name.clone(),
            queue.visible.to_string(),
            queue.hidden.to_string(),
            queue
                .oldest_message_age_seconds
                .map(|seconds| output::duration(TimeDelta::milliseconds((seconds * 1000.0) as i64)))
                .unwrap_or_default(),
            queue.enqueued.to_string(),
            queue.in_progress.to_string(),
            queue.waiting_for_retry.to_string(),
        ]
    });
    output::table(
        [
            "NAMESPACE",
            "QUEUE",
            "VISIBLE",
            "HIDDEN",
            "OLDEST",
            "ENQUEUED",
            "IN PROGRESS",
            "RETRYING",
        ],
        rows,
    )
}
