//! Domain events once more: what is published, which subscriptions it is sent to, and how often it is handed out.

use std::collections::BTreeSet;

use super::{Millis, Place};

/// How often an event is handed out for one subscription.
const MOST_DELIVERIES: i32 = 10;

/// An event that a step publishes.
#[derive(Debug, Clone)]
pub struct Published {
    /// Its name.
    pub name: &'static str,
    /// After which outcomes.
    pub condition: &'static str,
    /// Whether it goes to subscriptions, rather than to whoever listens.
    pub is_durable: bool,
}

/// What came of an attempt.
#[derive(Debug, Clone, Copy)]
pub struct Outcome {
    /// The step.
    pub place: Place,
    /// The attempt.
    pub attempt: i32,
    /// `success`, `retryable_failure` or `permanent_failure`.
    pub outcome: &'static str,
}

/// A subscription.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Subscription {
    /// Of this namespace's events.
    pub namespace: &'static str,
    /// Who subscribes.
    pub subscriber: &'static str,
    /// To which.
    pub pattern: &'static str,
}

/// An event that was published.
#[derive(Debug, Clone)]
pub struct Event {
    /// The outcome that it is of.
    pub of: Outcome,
    /// Its name.
    pub name: &'static str,
    /// Whether it went to subscriptions.
    pub is_durable: bool,
    /// To how many.
    pub subscriptions: i64,
}

/// An event on its way to a subscription.
#[derive(Debug, Clone)]
pub struct Message {
    /// Which one, in the order of publication.
    pub event: usize,
    /// To which subscription.
    pub to: Subscription,
    /// How often it was sent again after it was set aside.
    pub life: i32,
    /// How often it was handed out since.
    pub deliveries: i32,
    /// When it is handed out again.
    pub visible_at: Millis,
}

/// A delivery.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// Of which event.
    pub event: usize,
    /// To which subscription.
    pub to: Subscription,
    /// In which life of the message.
    pub life: i32,
    /// From 1.
    pub number: i32,
}

/// All events.
#[derive(Debug, Default)]
pub struct Events {
    /// The subscriptions.
    pub subscriptions: BTreeSet<Subscription>,
    /// What was published.
    pub published: Vec<Event>,
    /// What is on its way.
    pub messages: Vec<Message>,
    /// What was handed out too often.
    pub set_aside: Vec<Message>,
}

/// Whether a pattern stands for a name: a star for any characters.
#[must_use]
pub fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((before, rest)) => {
            let mut ends = (before.len()..=name.len()).rev();
            name.starts_with(before) && ends.any(|at| matches(rest, &name[at..]))
        }
    }
}

/// Whether an outcome meets a condition.
fn meets(outcome: &str, condition: &str) -> bool {
    match condition {
        "always" => true,
        "failure" => outcome != "success",
        _ => outcome == condition,
    }
}

impl Events {
    /// A step of a namespace that publishes some events has come to an outcome.
    pub fn publish(
        &mut self,
        namespace: &'static str,
        published: &[Published],
        of: Outcome,
        now: Millis,
    ) {
        for event in published {
            if !meets(of.outcome, event.condition) {
                continue;
            }
            let to: Vec<Subscription> = self
                .subscriptions
                .iter()
                .filter(|to| event.is_durable && to.namespace == namespace)
                .filter(|to| matches(to.pattern, event.name))
                .cloned()
                .collect();
            let number = self.published.len();
            self.published.push(Event {
                of,
                name: event.name,
                is_durable: event.is_durable,
                subscriptions: to.len() as i64,
            });
            self.messages.extend(to.into_iter().map(|to| Message {
                event: number,
                to,
                life: 0,
                deliveries: 0,
                visible_at: now,
            }));
        }
    }

    /// Ends a subscription with what waits for it; whether there was one.
    pub fn unsubscribe(&mut self, to: &Subscription) -> bool {
        self.messages.retain(|message| message.to != *to);
        self.subscriptions.remove(to)
    }

    /// Hands out what a subscriber can have by some patterns.
    pub fn claim(
        &mut self,
        (namespace, subscriber): (&str, &str),
        patterns: &[&str],
        lease: Millis,
        now: Millis,
    ) -> Vec<Delivery> {
        let mut claimed = Vec::new();
        for message in &mut self.messages {
            let to = &message.to;
            let is_wanted = (to.namespace, to.subscriber) == (namespace, subscriber)
                && patterns.contains(&to.pattern)
                && message.visible_at <= now;
            if is_wanted {
                message.deliveries += 1;
                message.visible_at = now + lease;
                if message.deliveries <= MOST_DELIVERIES {
                    claimed.push(Delivery {
                        event: message.event,
                        to: to.clone(),
                        life: message.life,
                        number: message.deliveries,
                    });
                }
            }
        }
        self.set_spent_aside(|message| message.deliveries > MOST_DELIVERIES);
        claimed
    }

    fn set_spent_aside(&mut self, is_spent: impl Fn(&Message) -> bool) {
        let (spent, left) = std::mem::take(&mut self.messages)
            .into_iter()
            .partition(is_spent);
        self.messages = left;
        self.set_aside.extend::<Vec<Message>>(spent);
    }

    /// A delivery is done, given back, or has failed; whether it is still the newest one. One that failed comes again after a delay, which is given.
    pub fn finish(
        &mut self,
        delivery: &Delivery,
        status: &str,
        delay: Millis,
        now: Millis,
    ) -> bool {
        let is_it = |message: &Message| {
            (message.event, &message.to) == (delivery.event, &delivery.to)
                && (message.life, message.deliveries) == (delivery.life, delivery.number)
        };
        let Some(index) = self.messages.iter().position(is_it) else {
            return false;
        };
        match status {
            "done" => drop(self.messages.remove(index)),
            "release" => self.messages[index].visible_at = now,
            _ => self.messages[index].visible_at = now + delay,
        }
        if status == "fail" {
            self.set_spent_aside(|message| is_it(message) && message.deliveries >= MOST_DELIVERIES);
        }
        true
    }

    /// Sends an event again to those subscriptions that didn't take it; to how many.
    pub fn redeliver(&mut self, event: usize, now: Millis) -> i64 {
        let (again, left): (Vec<Message>, Vec<Message>) = std::mem::take(&mut self.set_aside)
            .into_iter()
            .partition(|message| message.event == event);
        self.set_aside = left;
        let before = self.messages.len();
        let again = again.into_iter();
        let again = again.filter(|message| self.subscriptions.contains(&message.to));
        self.messages.extend(again.map(|message| Message {
            life: message.life + 1,
            deliveries: 0,
            visible_at: now,
            ..message
        }));
        (self.messages.len() - before) as i64
    }
}
