//! RabbitMQ's raw round: a persistent message published to a durable queue and confirmed, consumed, acknowledged.
//!
//! | module | holds |
//! |---|---|
//! | `programs` | where RabbitMQ is installed, if it is |
//! | `broker` | a broker of the benchmark's own; one that the user runs is never touched |

mod broker;
mod programs;

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions,
    ConfirmSelectOptions, QueueDeclareOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection, Consumer};
use serde::Serialize;
use tokio_stream::StreamExt;

use super::rounds::{HUNDRED, Queue, QueueRounds, measure};
use crate::options::Extent;
use crate::stage::Stage;
use broker::Broker;
use programs::Programs;

const QUEUE: &str = "bench_raw";
/// The same as PGMQ's.
const MESSAGE: &[u8] = br#"{"n": 1}"#;
/// Beside the first rounds a fresh broker still loads code and ends its own start; the PostgreSQL has been running for long.
const WARM_UP: Duration = Duration::from_millis(500);
/// AMQP's number for a message that outlives the broker.
const PERSISTENT: u8 = 2;

/// RabbitMQ's rounds, where there is a RabbitMQ; the rest of the run doesn't depend on it.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum RabbitMq {
    Measured(QueueRounds),
    /// `null` in the file.
    NotInstalled,
    /// It is there and didn't do its part; why, has been said. `null` in the file too.
    Failed,
}

/// On one connection to a broker that is started for it and stopped again.
pub(crate) async fn rounds(stage: &Stage, extent: Extent) -> RabbitMq {
    let Some(programs) = Programs::find() else {
        return RabbitMq::NotInstalled;
    };
    match on_a_broker(&programs, stage, extent).await {
        Ok(measured) => RabbitMq::Measured(measured),
        Err(error) => {
            crate::say(&format!("RabbitMQ couldn't be measured: {error:#}"));
            RabbitMq::Failed
        }
    }
}

async fn on_a_broker(
    programs: &Programs,
    stage: &Stage,
    extent: Extent,
) -> anyhow::Result<QueueRounds> {
    let mut broker = Broker::start(programs, stage).await?;
    let measured = match broker.connect().await {
        Ok(connection) => on_connection(&connection, extent).await,
        Err(error) => Err(error),
    };
    broker.stop().await?;
    measured
}

async fn on_connection(connection: &Connection, extent: Extent) -> anyhow::Result<QueueRounds> {
    let channel = connection.create_channel().await?;
    channel
        .confirm_select(ConfirmSelectOptions::default())
        .await?;
    declare(&channel, QueueDeclareOptions::durable()).await?;
    channel
        .basic_qos(HUNDRED as u16, BasicQosOptions::default())
        .await?;
    let consumer = channel
        .basic_consume(
            QUEUE.into(),
            "".into(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        )
        .await?;
    let mut queue = Subscribed { channel, consumer };
    let warm = Instant::now() + WARM_UP;
    while Instant::now() < warm {
        queue.one().await?;
        queue.hundred().await?;
    }
    let measured = measure(&mut queue, extent.queue_rounds).await?;
    // The answer comes when the acknowledgements before it have been worked off.
    let passive = QueueDeclareOptions {
        passive: true,
        ..QueueDeclareOptions::durable()
    };
    let left = declare(&queue.channel, passive).await?;
    ensure!(left == 0, "{left} messages were left in the queue");
    Ok(measured)
}

/// Gives how many messages wait in the queue.
async fn declare(channel: &Channel, options: QueueDeclareOptions) -> anyhow::Result<u32> {
    let queue = channel
        .queue_declare(QUEUE.into(), options, FieldTable::default())
        .await?;
    Ok(queue.message_count())
}

/// A channel with a consumer, to which the broker pushes what comes into the queue.
#[derive(Debug)]
struct Subscribed {
    channel: Channel,
    consumer: Consumer,
}

impl Queue for Subscribed {
    async fn one(&mut self) -> anyhow::Result<()> {
        self.round(1).await
    }

    async fn hundred(&mut self) -> anyhow::Result<()> {
        self.round(HUNDRED).await
    }
}

impl Subscribed {
    /// All are confirmed before the first one is taken; one acknowledgement is for all.
    async fn round(&mut self, messages: usize) -> anyhow::Result<()> {
        let mut confirmations = Vec::with_capacity(messages);
        for _ in 0..messages {
            confirmations.push(
                self.channel
                    .basic_publish(
                        "".into(),
                        QUEUE.into(),
                        BasicPublishOptions::default(),
                        MESSAGE,
                        BasicProperties::default().with_delivery_mode(PERSISTENT),
                    )
                    .await?,
            );
        }
        for confirmation in confirmations {
            ensure!(confirmation.await?.is_ack(), "a message was refused");
        }
        let mut last = 0;
        for _ in 0..messages {
            let delivery = self.consumer.next().await;
            last = delivery.context("the consumer was ended")??.delivery_tag;
        }
        let all = BasicAckOptions { multiple: true };
        self.channel.basic_ack(last, all).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::distribution::Distribution;

    #[test]
    fn a_rabbitmq_that_was_not_measured_is_null_in_the_file() {
        for outcome in [RabbitMq::NotInstalled, RabbitMq::Failed] {
            assert_eq!(serde_json::to_string(&outcome).unwrap(), "null");
        }
    }

    #[test]
    fn a_measured_rabbitmq_has_the_same_figures_in_the_file_as_pgmq() {
        let rounds = QueueRounds {
            one_by_one: Distribution::of(vec![1.0]).unwrap(),
            one_by_one_messages_per_second: 1_000.0,
            hundreds_messages_per_second: 20_000.0,
        };
        assert_eq!(
            serde_json::to_string(&RabbitMq::Measured(rounds)).unwrap(),
            serde_json::to_string(&rounds).unwrap()
        );
    }
}
