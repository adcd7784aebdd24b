//! `tasker-ctl event`: the feed of state changes, listed or followed.

use clap::{Args, Subcommand, ValueEnum};
use tasker_client::{Client, Event, EventFilter, EventSpan};
use uuid::Uuid;

use crate::failure::Failure;
use crate::output::{self, Output, plain};

#[derive(Debug, Subcommand)]
pub(crate) enum EventCommand {
    /// List state changes of tasks and steps after a cursor, in the order in which they settled
    #[command(after_help = "Example:\n  tasker-ctl event list --namespace shop --limit 20")]
    List {
        #[command(flatten)]
        of: EventsOf,
        /// What comes after this cursor, as -o json shows it with each event; from the oldest event on when left out
        #[arg(long, value_name = "CURSOR")]
        after: Option<String>,
        /// At most so many
        #[arg(short, long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
        limit: u32,
    },
    /// Follow state changes as they come; with --task until the task has ended
    #[command(
        after_help = "Example:\n  tasker-ctl event follow --namespace shop -o json | jq -r .to_state"
    )]
    Follow {
        #[command(flatten)]
        of: EventsOf,
        /// Go on after this cursor: nothing is missed since
        #[arg(long, value_name = "CURSOR")]
        after: Option<String>,
        /// Where to begin without a cursor
        #[arg(long, value_enum, default_value_t = Beginning::Now)]
        from: Beginning,
    },
}

#[derive(Debug, Args)]
pub(crate) struct EventsOf {
    /// Only those of this namespace
    #[arg(short, long)]
    namespace: Option<String>,
    /// Only those of this task and its steps
    #[arg(short, long = "task", value_name = "UUID")]
    task_uuid: Option<Uuid>,
}

/// Where to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Beginning {
    /// With the oldest event that is kept
    Oldest,
    /// With what comes
    Now,
}

impl EventsOf {
    fn filter(self) -> EventFilter {
        EventFilter {
            namespace: self.namespace,
            task_uuid: self.task_uuid,
        }
    }
}

pub(crate) async fn run(
    command: EventCommand,
    client: &Client,
    output: Output,
) -> Result<(), Failure> {
    match command {
        EventCommand::List { of, after, limit } => {
            let span = EventSpan {
                after: after.as_deref(),
                until: None,
                limit: Some(limit),
            };
            let events = client.list_events(&of.filter(), span).await?;
            output.show(&events, || table(&events))
        }
        EventCommand::Follow { of, after, from } => {
            let after = match (after, from) {
                (Some(cursor), _) => Some(cursor),
                (None, Beginning::Now) => Some(client.end_of_events().await?),
                (None, Beginning::Oldest) => None,
            };
            follow(client, of.filter(), after, output).await
        }
    }
}

async fn follow(
    client: &Client,
    filter: EventFilter,
    after: Option<String>,
    output: Output,
) -> Result<(), Failure> {
    let is_of_one_task = filter.task_uuid.is_some();
    let mut events = client.events(filter.clone(), after);
    loop {
        let event = events.next().await?;
        if output.is_json() {
            output::line(&serde_json::to_string(&event)?)?;
        } else {
            output::line(&text(&event))?;
        }
        if is_of_one_task && event.task_end().is_some() && is_last(client, &filter, &event).await? {
            return Ok(());
        }
    }
}

/// A task that has ended may have been revived since.
async fn is_last(client: &Client, filter: &EventFilter, event: &Event) -> Result<bool, Failure> {
    let span = EventSpan {
        after: Some(&event.cursor),
        until: None,
        limit: Some(1),
    };
    Ok(client.list_events(filter, span).await?.is_empty())
}

fn table(events: &[Event]) -> String {
    let rows = events.iter().map(|event| {
        [
            output::time(event.at),
            format!("{}/{}", event.namespace, event.template_name),
            event.task_uuid.to_string(),
            event.step_name.clone().unwrap_or_default(),
            event.event.clone(),
            event.to_state.clone(),
            event
                .attempt
                .map(|attempt| attempt.to_string())
                .unwrap_or_default(),
        ]
    });
    output::table(
        [
            "AT", "TEMPLATE", "TASK", "STEP", "EVENT", "STATE", "ATTEMPT",
        ],
        rows,
    )
}

/// `12:03:04.512Z shop/order_fulfillment 0198… validate_order start: enqueued → in_progress`.
fn text(event: &Event) -> String {
    let at = event.at.format("%H:%M:%S%.3fZ");
    let step = event
        .step_name
        .as_ref()
        .map(|name| format!(" {name}"))
        .unwrap_or_default();
    let from = event
        .from_state
        .as_ref()
        .map(|state| format!("{state} → "))
        .unwrap_or_default();
    plain(&format!(
        "{at} {}/{} {}{step} {}: {from}{}",
        event.namespace, event.template_name, event.task_uuid, event.event, event.to_state
    ))
}
