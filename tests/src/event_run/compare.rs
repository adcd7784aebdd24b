//! What was published, what is on its way, and what is heard, beside the model.

use anyhow::ensure;
use serde_json::Value;
use sqlx::Executor;
use uuid::Uuid;

use super::{EPOCH, NAMESPACES, Run};

impl Run {
    pub(super) async fn compare_published(&mut self) -> anyhow::Result<()> {
        let mut published: Vec<(Uuid, i32, String, String, String, i64)> = sqlx::query_as(
            "select step_uuid, attempt, name, outcome, coalesce(delivery_mode, problem), subscriptions from tasker.domain_events",
        )
        .fetch_all(&mut self.session)
        .await?;
        let mut expected: Vec<_> = self
            .events
            .published
            .iter()
            .map(|event| {
                let mode = if event.is_durable { "durable" } else { "fast" };
                (
                    self.key(event.of.place),
                    event.of.attempt,
                    event.name.to_owned(),
                    event.of.outcome.to_owned(),
                    mode.to_owned(),
                    event.subscriptions,
                )
            })
            .collect();
        published.sort_unstable();
        expected.sort_unstable();
        for (found, expected) in published.iter().zip(&expected) {
            ensure!(
                found == expected,
                "published is {found:?}, not {expected:?}"
            );
        }
        ensure!(
            published.len() == expected.len(),
            "{} are published, and in the model {}",
            published.len(),
            expected.len()
        );
        Ok(())
    }

    pub(super) async fn compare_messages(&mut self) -> anyhow::Result<()> {
        let mut messages: Vec<String> = Vec::new();
        let mut aside = 0;
        for namespace in NAMESPACES {
            let has_queue: bool = sqlx::query_scalar("select to_regclass($1) is not null")
                .bind(format!("pgmq.q_events_{namespace}_queue"))
                .fetch_one(&mut self.session)
                .await?;
            if !has_queue {
                continue;
            }
            let found: Vec<String> = sqlx::query_scalar(&format!(
                "select concat_ws(' ', m.message ->> 'namespace', m.message ->> 'subscriber', m.message ->> 'pattern', m.message ->> 'step_uuid', m.message ->> 'attempt',
                   m.message ->> 'name', m.read_ct, (extract(epoch from m.vt) * 1000)::bigint - $1)
                 from pgmq.q_events_{namespace}_queue m"
            ))
            .bind(EPOCH)
            .fetch_all(&mut self.session)
            .await?;
            messages.extend(found);
            let archived: i64 = sqlx::query_scalar(&format!(
                "select count(*) from pgmq.a_events_{namespace}_queue"
            ))
            .fetch_one(&mut self.session)
            .await?;
            aside += archived;
        }
        let mut expected: Vec<String> = self
            .events
            .messages
            .iter()
            .map(|message| {
                let event = &self.events.published[message.event];
                format!(
                    "{} {} {} {} {} {} {} {}",
                    message.to.namespace,
                    message.to.subscriber,
                    message.to.pattern,
                    self.key(event.of.place),
                    event.of.attempt,
                    event.name,
                    message.deliveries,
                    message.visible_at,
                )
            })
            .collect();
        messages.sort_unstable();
        expected.sort_unstable();
        for (found, expected) in messages.iter().zip(&expected) {
            ensure!(
                found == expected,
                "a message is {found:?}, not {expected:?}"
            );
        }
        ensure!(
            (messages.len(), aside) == (expected.len(), self.events.set_aside.len() as i64),
            "{} messages and {aside} set aside, and in the model {} and {}",
            messages.len(),
            expected.len(),
            self.events.set_aside.len()
        );
        Ok(())
    }

    /// Fast events have been heard by now, each once.
    pub(super) async fn hear(&mut self) -> anyhow::Result<()> {
        self.session.execute("notify model").await?;
        let mut heard: Vec<(Uuid, i64, String)> = Vec::new();
        loop {
            let notification = self.ears.recv().await?;
            if notification.channel() == "model" {
                break;
            }
            if notification.payload().is_empty() {
                continue;
            }
            let event: Value = serde_json::from_str(notification.payload())?;
            let text = |field: &str| event[field].as_str().unwrap_or_default().to_owned();
            let attempt = event["attempt"].as_i64().unwrap_or_default();
            heard.push((text("step_uuid").parse()?, attempt, text("name")));
        }
        let mut expected: Vec<(Uuid, i64, String)> = self.events.published[self.heard..]
            .iter()
            .filter(|event| !event.is_durable)
            .map(|event| {
                let key = self.key(event.of.place);
                (key, event.of.attempt.into(), event.name.to_owned())
            })
            .collect();
        self.heard = self.events.published.len();
        heard.sort_unstable();
        expected.sort_unstable();
        ensure!(
            heard == expected,
            "heard was {heard:?}, and not {expected:?}"
        );
        Ok(())
    }
}
