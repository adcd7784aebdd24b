//! `tasker-ctl subscription`: who subscribes to domain events.

use chrono::TimeDelta;
use clap::Subcommand;
use tasker_client::{Client, Subscription};

use crate::failure::Failure;
use crate::output::{self, Output};

#[derive(Debug, Subcommand)]
pub(crate) enum SubscriptionCommand {
    /// List the subscriptions to durable domain events, with what waits for each
    #[command(after_help = "Example:\n  tasker-ctl subscription list --namespace shop")]
    List {
        /// Only those of this namespace
        #[arg(short, long)]
        namespace: Option<String>,
    },
}

pub(crate) async fn run(
    command: SubscriptionCommand,
    client: &Client,
    output: Output,
) -> Result<(), Failure> {
    let SubscriptionCommand::List { namespace } = command;
    let subscriptions = client.list_subscriptions(namespace.as_deref()).await?;
    output.show(&subscriptions, || table(&subscriptions, output))
}

fn table(subscriptions: &[Subscription], output: Output) -> String {
    let rows = subscriptions.iter().map(|subscription| {
        let oldest = subscription.oldest_seconds.map(|seconds| {
            let elapsed = TimeDelta::milliseconds((seconds * 1000.0) as i64);
            output::duration(elapsed)
        });
        let narrow = [
            subscription.namespace.clone(),
            subscription.subscriber.clone(),
            subscription.pattern.clone(),
            subscription.waiting.to_string(),
            subscription.delivered_again.to_string(),
            oldest.unwrap_or_default(),
        ];
        let wide = [
            subscription.created_by.clone(),
            output::time(subscription.created_at),
        ];
        (narrow, wide)
    });
    output.table(
        [
            "NAMESPACE",
            "SUBSCRIBER",
            "PATTERN",
            "WAITING",
            "DELIVERED AGAIN",
            "OLDEST",
        ],
        ["CREATED BY", "CREATED"],
        rows,
    )
}
