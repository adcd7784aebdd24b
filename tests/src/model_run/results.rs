//! Results of steps, with as much of them as the engine reads.

use std::collections::BTreeSet;
use std::rc::Rc;

use serde_json::{Value, json};

use super::Run;
use crate::model::{Kind, Millis, Payload, Place, Row, Template};

/// Seconds since 1970 when the clock says 0.
const EPOCH: Millis = 1_893_456_000;
const DAY: Millis = 86_400_000;

/// A time, in one of the forms that are read.
fn time(at: Millis, as_text: bool) -> Value {
    let (seconds, rest) = (at / 1_000, at % 1_000);
    if !as_text || at >= DAY {
        let number = format!("{}.{rest:03}", EPOCH + seconds);
        return json!(number.parse::<f64>().unwrap_or_default());
    }
    let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    json!(format!(
        "2030-01-01T{hour:02}:{minute:02}:{second:02}.{rest:03}+00:00"
    ))
}

impl Run {
    /// A result of a step.
    pub(super) fn result(&mut self, (number, position): Place, is_good: bool) -> (Value, Payload) {
        let template = Rc::clone(&self.model.tasks[number].template);
        let Row::Step(of) = template.row(position) else {
            return (json!(position), Payload::default());
        };
        let items: Vec<usize> = (0..self.chance.below(5)).collect();
        let some = Payload::of_items(Some(items.len()));
        match template.steps[of].kind {
            Kind::Decision => {
                let is_good = is_good || !self.chance.once_in(8);
                self.choice(&template, of, is_good)
            }
            Kind::Batchable if is_good || !self.chance.once_in(8) => {
                (json!({"batch": {"cursors": items}}), some)
            }
            Kind::Batchable => (json!({"batch": items}), Payload::default()),
            Kind::Many { .. } => (json!(items), some),
            Kind::Signal { .. } => {
                let (mut result, payload) = self.fields(is_good);
                result["by"] = json!("an operator");
                (result, payload)
            }
            _ => self.fields(is_good),
        }
    }

    /// An object whose fields others read.
    pub(super) fn fields(&mut self, is_good: bool) -> (Value, Payload) {
        let items: Vec<usize> = (0..self.chance.below(5)).collect();
        let at = (self.model.now + self.chance.below(90_000) as Millis - 15_000).max(0);
        let as_text = self.chance.once_in(2);
        let mut payload = Payload {
            items: Some(items.len()),
            at: Some(at),
            has_context: true,
            ..Payload::default()
        };
        let mut result = json!({"items": items, "at": time(at, as_text), "context": {}});
        if !is_good && self.chance.once_in(8) {
            result["items"] = json!("none");
            payload.items = None;
        }
        if !is_good && self.chance.once_in(8) {
            result["at"] = json!("soon");
            payload.at = None;
        }
        if !is_good && self.chance.once_in(8) {
            result["context"] = json!(items);
            payload.has_context = false;
        }
        (result, payload)
    }

    fn choice(&mut self, template: &Template, of: usize, is_good: bool) -> (Value, Payload) {
        let dependents = template.dependents(of);
        let behind: Vec<usize> = (of + 1..template.steps.len())
            .filter(|&step| template.leads_to(of, step))
            .collect();
        let picked: Vec<usize> = behind
            .into_iter()
            .filter(|step| {
                self.chance
                    .once_in(if dependents.contains(step) { 2 } else { 8 })
            })
            .collect();
        let mut names: Vec<&str> = picked
            .iter()
            .map(|&step| template.steps[step].name.as_str())
            .collect();
        let chosen: BTreeSet<usize> = picked
            .iter()
            .flat_map(|&step| {
                if dependents.contains(&step) {
                    return vec![step];
                }
                let through = dependents.iter().copied();
                through
                    .filter(|&dependent| template.leads_to(dependent, step))
                    .collect()
            })
            .collect();
        if !is_good {
            // Not behind itself.
            names.push(&template.steps[of].name);
        }
        (
            json!({"decision": {"steps": names}}),
            Payload {
                chosen: is_good.then_some(chosen),
                ..Payload::default()
            },
        )
    }
}
