//! Subscriptions, and what is handed out for them.

use std::collections::BTreeMap;

use anyhow::{Context, ensure};
use serde_json::json;

use super::{EPOCH, LEASES, NAMESPACES, Run};
use crate::model::Millis;
use crate::model::events::{Delivery, Subscription};
use uuid::Uuid;

const SUBSCRIBERS: [&str; 2] = ["audit", "mailer"];
const PATTERNS: [&str; 6] = [
    "*",
    "order.*",
    "*.added",
    "payment.refused",
    "or*ed",
    "order",
];

/// A delivery that somebody has, or had, and the number of its message.
#[derive(Debug, Clone)]
pub(super) struct Handed {
    delivery: Delivery,
    msg_id: i64,
}

impl Run {
    fn subscription(&mut self) -> Subscription {
        Subscription {
            namespace: NAMESPACES[self.chance.below(NAMESPACES.len())],
            subscriber: SUBSCRIBERS[self.chance.below(SUBSCRIBERS.len())],
            pattern: PATTERNS[self.chance.below(PATTERNS.len())],
        }
    }

    pub(super) async fn subscribe(&mut self) -> anyhow::Result<()> {
        let to = self.subscription();
        let other = Subscription {
            pattern: PATTERNS[self.chance.below(PATTERNS.len())],
            ..to.clone()
        };
        self.trail.push(format!("{to:?} and {}", other.pattern));
        let count: i64 = sqlx::query_scalar(
            "select tasker.subscribe_domain_events($1, array[$2::text], array[$3, $4]::text[])",
        )
        .bind(to.subscriber)
        .bind(to.namespace)
        .bind(to.pattern)
        .bind(other.pattern)
        .fetch_one(&mut self.session)
        .await?;
        let expected = i64::from(self.events.subscriptions.insert(to))
            + i64::from(self.events.subscriptions.insert(other));
        ensure!(
            count == expected,
            "{count} are new, and in the model {expected}"
        );
        Ok(())
    }

    pub(super) async fn unsubscribe(&mut self) -> anyhow::Result<()> {
        let to = self.subscription();
        let expected = self.events.unsubscribe(&to);
        self.trail.push(format!("no more {to:?}: {expected}"));
        let was_there: bool =
            sqlx::query_scalar("select tasker.unsubscribe_domain_events($1, $2, $3)")
                .bind(to.subscriber)
                .bind(to.namespace)
                .bind(to.pattern)
                .fetch_one(&mut self.session)
                .await?;
        ensure!(was_there == expected);
        Ok(())
    }

    /// Claims what a subscriber can have by some of its patterns, and others.
    pub(super) async fn claim_events(&mut self) -> anyhow::Result<()> {
        let to = self.subscription();
        let patterns: Vec<&'static str> = PATTERNS
            .into_iter()
            .filter(|&pattern| pattern == to.pattern || self.chance.once_in(2))
            .collect();
        self.claim_by(to.namespace, to.subscriber, &patterns).await
    }

    pub(super) async fn claim_by(
        &mut self,
        namespace: &'static str,
        subscriber: &'static str,
        patterns: &[&'static str],
    ) -> anyhow::Result<()> {
        let lease = LEASES[self.chance.below(LEASES.len())];
        self.trail
            .push(format!("{subscriber} claims {patterns:?} of {namespace}"));
        let claimed: Vec<(i64, i32, String, Uuid, i32, String)> = sqlx::query_as(
            "select msg_id, delivery, pattern, (event ->> 'step_uuid')::uuid, (event ->> 'attempt')::integer, event ->> 'name'
             from tasker.claim_domain_events('w', $1, array[$2::text], $3, 1000, $4 * interval '1 millisecond')",
        )
        .bind(subscriber)
        .bind(namespace)
        .bind(patterns)
        .bind(lease)
        .fetch_all(&mut self.session)
        .await?;
        let now = self.model.now;
        let expected = self
            .events
            .claim((namespace, subscriber), patterns, lease, now);
        ensure!(
            claimed.len() == expected.len(),
            "{claimed:?} are claimed, and in the model {expected:?}"
        );
        let mut claimed: BTreeMap<_, _> = claimed
            .into_iter()
            .map(|(msg_id, number, pattern, step, attempt, name)| {
                ((step, attempt, name, pattern), (msg_id, number))
            })
            .collect();
        for delivery in expected {
            let published = &self.events.published[delivery.event];
            let step = self.key(published.of.place);
            let key = (
                step,
                published.of.attempt,
                published.name.to_owned(),
                delivery.to.pattern.to_owned(),
            );
            let (msg_id, number) = claimed
                .remove(&key)
                .with_context(|| format!("{key:?} is not claimed"))?;
            ensure!(
                number == delivery.number,
                "delivery {number} of {key:?}, not {}",
                delivery.number
            );
            self.deliveries.push(Handed { delivery, msg_id });
        }
        Ok(())
    }

    pub(super) async fn finish_deliveries(&mut self) -> anyhow::Result<()> {
        for _ in 0..=self.chance.below(4) {
            if self.deliveries.is_empty() {
                return Ok(());
            }
            let index = self.chance.below(self.deliveries.len());
            let delivery = self.deliveries.swap_remove(index);
            let status = ["done", "done", "fail", "release"][self.chance.below(4)];
            self.finish_delivery(&delivery, status).await?;
        }
        Ok(())
    }

    pub(super) async fn finish_delivery(
        &mut self,
        handed: &Handed,
        status: &str,
    ) -> anyhow::Result<()> {
        let Handed { delivery, msg_id } = handed;
        let finished = json!([{"namespace": delivery.to.namespace, "msg_id": msg_id,
            "delivery": delivery.number, "status": status, "error": "told so"}]);
        self.trail.push(finished.to_string());
        let verdict: String =
            sqlx::query_scalar("select verdict from tasker.finish_domain_events('w', $1)")
                .bind(finished)
                .fetch_one(&mut self.session)
                .await?;
        let visible_at: Option<Millis> = sqlx::query_scalar(&format!(
            "select (extract(epoch from vt) * 1000)::bigint from pgmq.q_events_{}_queue where msg_id = $1",
            delivery.to.namespace
        ))
        .bind(msg_id)
        .fetch_optional(&mut self.session)
        .await?;
        let now = self.model.now;
        // With a jitter, which is taken over.
        let delay = visible_at.map_or(0, |visible_at| visible_at - EPOCH - now);
        let expected = self.events.finish(delivery, status, delay, now);
        ensure!(
            (verdict == "accepted") == expected,
            "{verdict} for {status}, and in the model {expected}"
        );
        if status == "fail" && expected && visible_at.is_some() {
            let usual = (1_000 << (delivery.number - 1).min(16)).min(300_000);
            ensure!(
                (usual * 84 / 100..=usual * 116 / 100).contains(&delay),
                "delivery {} comes again after {delay} ms",
                delivery.number
            );
        }
        Ok(())
    }

    /// An event fails until it is set aside.
    pub(super) async fn exhaust(&mut self) -> anyhow::Result<()> {
        let index = self.chance.below(self.events.messages.len().max(1));
        let Some(message) = self.events.messages.get(index).cloned() else {
            return Ok(());
        };
        let is_it = |other: &Handed| {
            (other.delivery.event, &other.delivery.to) == (message.event, &message.to)
        };
        loop {
            let messages = self.events.messages.iter();
            let mut of_it =
                messages.filter(|other| other.event == message.event && other.to == message.to);
            let Some(visible_at) = of_it.next().map(|message| message.visible_at) else {
                return Ok(());
            };
            self.pass((visible_at - self.model.now).max(0)).await?;
            self.claim_by(
                message.to.namespace,
                message.to.subscriber,
                &[message.to.pattern],
            )
            .await?;
            if let Some(index) = self.deliveries.iter().rposition(is_it) {
                let delivery = self.deliveries.swap_remove(index);
                self.finish_delivery(&delivery, "fail").await?;
            }
        }
    }

    pub(super) async fn redeliver(&mut self) -> anyhow::Result<()> {
        let aside = &self.events.set_aside;
        let Some(event) = aside
            .get(self.chance.below(aside.len().max(1)))
            .map(|message| message.event)
        else {
            return Ok(());
        };
        let now = self.model.now;
        let expected = self.events.redeliver(event, now);
        let published = &self.events.published[event];
        self.trail.push(format!("{published:?} again: {expected}"));
        let key = self.key(published.of.place);
        let count: i64 = sqlx::query_scalar(
            "select tasker.redeliver_domain_event(d.event_uuid) from tasker.domain_events d where d.step_uuid = $1 and d.attempt = $2 and d.name = $3",
        )
        .bind(key)
        .bind(published.of.attempt)
        .bind(published.name)
        .fetch_one(&mut self.session)
        .await?;
        ensure!(
            count == expected,
            "{count} are sent, and in the model {expected}"
        );
        Ok(())
    }
}
