//! Templates as chance has it.

use std::rc::Rc;

use super::{Chance, Definition, Kind, Millis, Retry, SIGNALS, Template, Until};

const STRATEGIES: [Option<&str>; 4] = [
    None,
    Some("continue_on_failure"),
    Some("isolate"),
    Some("fail_fast"),
];
const DELAYS: [Millis; 3] = [0, 2_000, 10_000];
const WAITS: [Millis; 4] = [0, 1_000, 9_000, 60_000];

fn retry(chance: &mut Chance) -> Retry {
    Retry {
        max_attempts: 1 + chance.below(3) as i32,
        delay: DELAYS[chance.below(3)],
    }
}

impl Template {
    /// A template of all kinds of steps, some of which start tasks of other templates.
    #[must_use]
    pub fn random(name: &str, others: &[Rc<Self>], chance: &mut Chance) -> Self {
        let mut template = Self {
            name: name.to_owned(),
            steps: Vec::new(),
            blocks: chance.once_in(2),
            defers: chance.once_in(3),
        };
        let count = 4 + chance.below(5);
        while template.steps.len() < count {
            template.push_any(others, chance);
        }
        // A decision needs something to choose.
        let idle: Vec<usize> = (0..template.steps.len())
            .filter(|&position| template.steps[position].kind == Kind::Decision)
            .filter(|&position| template.dependents(position).is_empty())
            .collect();
        for decision in idle {
            template.push(Kind::Plain, Some(decision), chance);
        }
        if !chance.once_in(4) {
            template.undo_some(chance);
        }
        template
    }

    fn push_any(&mut self, others: &[Rc<Self>], chance: &mut Chance) {
        let has_steps = !self.steps.is_empty();
        match chance.below(22) {
            0 | 1 => self.push(Kind::Decision, None, chance),
            2 | 3 if has_steps => self.push(Kind::Convergence, None, chance),
            4 | 5 => {
                if let Some(source) = self.any_with_fields(chance) {
                    self.push_many(source, false, chance);
                }
            }
            6 => {
                self.push(Kind::Batchable, None, chance);
                self.push_many(self.steps.len() - 1, true, chance);
            }
            7 | 8 => self.push_signal(chance),
            9 | 10 => self.push_timer(chance),
            11..=13 if !others.is_empty() => {
                // Most of the first, so that some come to their end.
                let among = if chance.once_in(3) { others.len() } else { 1 };
                let other = &others[chance.below(among)];
                let context = self.any_with_fields(chance);
                let context = context.filter(|_| chance.once_in(2));
                let kind = Kind::Child {
                    template: other.name.clone(),
                    context,
                };
                self.push(kind, context, chance);
            }
            14 | 15 => self.push(Kind::Sql, None, chance),
            _ => self.push(Kind::Plain, None, chance),
        }
    }

    fn push_signal(&mut self, chance: &mut Chance) {
        let timeout = chance.one_of(&WAITS[1..]);
        let kind = Kind::Signal {
            name: chance.below(SIGNALS),
            timeout: timeout.filter(|_| !chance.once_in(3)),
            goes_on: chance.once_in(2),
        };
        self.push(kind, None, chance);
    }

    fn push_timer(&mut self, chance: &mut Chance) {
        let source = self.any_with_fields(chance);
        let source = source.filter(|_| chance.once_in(2));
        let until = source.map_or(Until::Delay(WAITS[chance.below(4)]), Until::Result);
        self.push(Kind::Timer(until), source, chance);
    }

    /// A step whose result has fields that others read.
    fn any_with_fields(&self, chance: &mut Chance) -> Option<usize> {
        let source = chance.below(self.steps.len().max(1));
        let kind = &self.steps.get(source)?.kind;
        matches!(
            kind,
            Kind::Plain | Kind::Sql | Kind::Signal { .. } | Kind::Batchable | Kind::Many { .. }
        )
        .then_some(source)
    }

    fn push_many(&mut self, source: usize, is_batch: bool, chance: &mut Chance) {
        let kind = Kind::Many {
            source,
            is_batch,
            parallel: chance.one_of(&[None, Some(1), Some(2)]).flatten(),
            strategy: chance.one_of(&STRATEGIES).flatten(),
        };
        self.push(kind, Some(source), chance);
    }

    /// A step more, which waits for some of those before it.
    fn push(&mut self, kind: Kind, needed: Option<usize>, chance: &mut Chance) {
        let is_batch = matches!(kind, Kind::Many { is_batch: true, .. });
        let mut dependencies: Vec<usize> = needed.into_iter().collect();
        let more = match needed {
            Some(_) => chance.below(2),
            None if kind == Kind::Convergence => 1 + chance.below(3),
            None => chance.below(3),
        };
        for _ in 0..more.min(self.steps.len()) {
            let other = chance.below(self.steps.len());
            let is_other_batch = is_batch && self.steps[other].kind == Kind::Batchable;
            if !dependencies.contains(&other) && !is_other_batch {
                dependencies.push(other);
            }
        }
        dependencies.sort_unstable();
        self.steps.push(Definition {
            name: format!("s{}", self.steps.len()),
            kind,
            dependencies,
            retry: retry(chance),
            undo: None,
        });
    }

    /// Lets some of its steps be undone. What waits for a signal or a time has nothing to undo.
    fn undo_some(&mut self, chance: &mut Chance) {
        for step in &mut self.steps {
            let has_done = !matches!(step.kind, Kind::Signal { .. } | Kind::Timer(_));
            if has_done && !chance.once_in(3) {
                step.undo = Some(retry(chance));
            }
        }
    }
}
