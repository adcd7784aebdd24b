//! `tasker-ctl domain-event`: what steps published, and who subscribes to it.

use clap::{Args, Subcommand};
use serde::Serialize;
use tasker_client::{Client, DomainEventFilter, PublishedDomainEvent};
use uuid::Uuid;

use crate::failure::Failure;
use crate::output::{self, Output};

#[derive(Debug, Subcommand)]
pub(crate) enum DomainEventCommand {
    /// List the domain events that steps published, newest first
    #[command(
        after_help = "Example:\n  tasker-ctl domain-event list --namespace shop --name 'order.*'"
    )]
    List(ListOptions),
    /// Subscribe to the durable events of namespaces; safe to repeat
    #[command(
        after_help = "Example:\n  tasker-ctl domain-event subscribe mailer 'order.*' 'payment.refused' --namespace shop"
    )]
    Subscribe {
        /// The name that all workers have in common that share the events
        subscriber: String,
        /// Which events: names in which * stands for any characters
        #[arg(required = true, value_name = "PATTERN")]
        patterns: Vec<String>,
        /// The namespaces, which may be yet to be made; may be given several times
        #[arg(short, long = "namespace", required = true, value_name = "NAMESPACE")]
        namespaces: Vec<String>,
    },
    /// End a subscription, with what waits for it
    #[command(
        after_help = "Example:\n  tasker-ctl domain-event unsubscribe mailer 'order.*' --namespace shop"
    )]
    Unsubscribe {
        /// The subscriber
        subscriber: String,
        /// The pattern, as it was subscribed to
        pattern: String,
        /// The namespace of the subscription
        #[arg(short, long, default_value = "default")]
        namespace: String,
    },
    /// Send an event again to the subscriptions that did not take it
    #[command(
        after_help = "Example:\n  tasker-ctl domain-event redeliver 019cadc7-84e0-7000-a1d3-894254600000"
    )]
    Redeliver {
        /// The event
        event_uuid: Uuid,
    },
}

#[derive(Debug, Args)]
pub(crate) struct ListOptions {
    /// Only those of this namespace
    #[arg(short, long)]
    namespace: Option<String>,
    /// Only those of this name, which may be a pattern
    #[arg(long)]
    name: Option<String>,
    /// Only those of this task
    #[arg(short, long = "task", value_name = "UUID")]
    task_uuid: Option<Uuid>,
    /// The page after this event
    #[arg(long, value_name = "UUID")]
    after: Option<Uuid>,
    /// At most so many
    #[arg(short, long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,
}

#[derive(Serialize)]
struct Subscribed {
    subscriber: String,
    created: i64,
}

#[derive(Serialize)]
struct Ended {
    namespace: String,
    subscriber: String,
    pattern: String,
    unsubscribed: bool,
}

#[derive(Serialize)]
struct Redelivered {
    event_uuid: Uuid,
    redelivered: i64,
}

pub(crate) async fn run(
    command: DomainEventCommand,
    client: &Client,
    output: Output,
) -> Result<(), Failure> {
    match command {
        DomainEventCommand::List(options) => list(client, options, output).await,
        DomainEventCommand::Subscribe {
            subscriber,
            patterns,
            namespaces,
        } => {
            let created = client
                .subscribe_domain_events(&subscriber, &namespaces, &patterns)
                .await?;
            let subscribed = Subscribed {
                subscriber,
                created,
            };
            output.show(&subscribed, || match created {
                0 => format!("{} had subscribed before", subscribed.subscriber),
                1 => format!("{} has 1 subscription more", subscribed.subscriber),
                count => format!("{} has {count} subscriptions more", subscribed.subscriber),
            })
        }
        DomainEventCommand::Unsubscribe {
            subscriber,
            pattern,
            namespace,
        } => {
            let unsubscribed = client
                .unsubscribe_domain_events(&subscriber, &namespace, &pattern)
                .await?;
            let answer = Ended {
                namespace,
                subscriber,
                pattern,
                unsubscribed,
            };
            output.show(&answer, || {
                let outcome = if unsubscribed {
                    "ended"
                } else {
                    "wasn't there"
                };
                let Ended {
                    namespace,
                    subscriber,
                    pattern,
                    ..
                } = &answer;
                format!("the subscription of {subscriber} to {namespace} {pattern} {outcome}")
            })
        }
        DomainEventCommand::Redeliver { event_uuid } => {
            let redelivered = client.redeliver_domain_event(event_uuid).await?;
            let answer = Redelivered {
                event_uuid,
                redelivered,
            };
            output.show(&answer, || match redelivered {
                0 => format!("{event_uuid}: no subscription has failed to take it"),
                1 => format!("{event_uuid} is sent to 1 subscription again"),
                count => format!("{event_uuid} is sent to {count} subscriptions again"),
            })
        }
    }
}

async fn list(client: &Client, options: ListOptions, output: Output) -> Result<(), Failure> {
    let filter = DomainEventFilter {
        namespace: options.namespace,
        name: options.name,
        task_uuid: options.task_uuid,
        after: options.after,
        limit: Some(options.limit),
    };
    let events = client.list_domain_events(&filter).await?;
    output.show(&events, || table(&events, output))
}

fn table(events: &[PublishedDomainEvent], output: Output) -> String {
    let rows = events.iter().map(|event| {
        let narrow = [
            output::time(event.published_at),
            event.name.clone(),
            format!("{}/{}", event.namespace, event.template_name),
            event.step_name.clone(),
            event.outcome.clone(),
            event.delivery_mode.clone().unwrap_or_default(),
            event.subscriptions.to_string(),
            state(event),
            event.event_uuid.to_string(),
        ];
        let payload = event.payload.as_ref().map(ToString::to_string);
        let wide = [
            event.task_uuid.to_string(),
            event.attempt.to_string(),
            payload.unwrap_or_default(),
        ];
        (narrow, wide)
    });
    output.table(
        [
            "PUBLISHED",
            "NAME",
            "TEMPLATE",
            "STEP",
            "OUTCOME",
            "MODE",
            "SUBSCRIPTIONS",
            "TROUBLE",
            "EVENT",
        ],
        ["TASK", "ATTEMPT", "PAYLOAD"],
        rows,
    )
}

/// Why it was not published, or how many subscriptions didn't take it.
fn state(event: &PublishedDomainEvent) -> String {
    if let Some(problem) = &event.problem {
        return format!("not published: {problem}");
    }
    let set_aside = event.set_aside.as_ref().and_then(|value| value.as_array());
    set_aside.map_or_else(String::new, |them| format!("not taken by {}", them.len()))
}
