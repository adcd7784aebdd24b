//! Templates whose steps publish events, as chance has it.

use std::rc::Rc;

use serde_json::{Value, json};

use super::NAMESPACES;
use crate::model::events::Published;
use crate::model::{Chance, Definition, Kind, Retry, Template, written};

const NAMES: [&str; 4] = [
    "order.shipped",
    "order.line.added",
    "payment.refused",
    "order",
];
const CONDITIONS: [&str; 5] = [
    "success",
    "failure",
    "retryable_failure",
    "permanent_failure",
    "always",
];

/// A template, where it is, and what each of its steps publishes.
#[derive(Debug)]
pub(super) struct Publisher {
    pub(super) template: Rc<Template>,
    pub(super) namespace: &'static str,
    pub(super) events: Vec<Vec<Published>>,
}

impl Publisher {
    pub(super) fn random(number: usize, chance: &mut Chance) -> Self {
        let count = 1 + chance.below(3);
        let step = |position: usize, chance: &mut Chance| Definition {
            name: format!("s{position}"),
            kind: Kind::Plain,
            dependencies: position.checked_sub(1).into_iter().collect(),
            retry: Retry {
                max_attempts: 1 + chance.below(3) as i32,
                delay: [0, 4_000][chance.below(2)],
            },
            undo: None,
        };
        let template = Template {
            name: format!("t{number}"),
            steps: (0..count).map(|position| step(position, chance)).collect(),
            blocks: chance.once_in(2),
            defers: chance.once_in(3),
        };
        let events = (0..count)
            .map(|_| {
                let named = NAMES.iter().filter(|_| chance.once_in(2));
                let named: Vec<&str> = named.copied().collect();
                named
                    .into_iter()
                    .map(|name| Published {
                        name,
                        condition: CONDITIONS[chance.below(CONDITIONS.len())],
                        is_durable: !chance.once_in(4),
                    })
                    .collect()
            })
            .collect();
        Self {
            template: Rc::new(template),
            namespace: NAMESPACES[chance.below(NAMESPACES.len())],
            events,
        }
    }

    /// The template as it is registered, with its events.
    pub(super) fn written(&self) -> anyhow::Result<Value> {
        let mut definition: Value = serde_json::from_str(&written(&self.template))?;
        definition["namespace_name"] = json!(self.namespace);
        for (position, events) in self.events.iter().enumerate() {
            let events: Vec<Value> = events
                .iter()
                .map(|event| {
                    let mode = if event.is_durable { "durable" } else { "fast" };
                    json!({"name": event.name, "condition": event.condition, "delivery_mode": mode})
                })
                .collect();
            definition["steps"][position]["publishes_events"] = json!(events);
        }
        Ok(definition)
    }
}
