//! What is at which position of a task: the steps of its template in their order, and behind them, in turns, instances of steps and what undoes steps.

use super::{Definition, Kind, Retry, Template};

/// What is at a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Row {
    /// A step of the template.
    Step(usize),
    /// Which instance of one, from 1.
    Instance(usize, usize),
    /// What undoes a step, or which instance of one, from 1.
    Undo(usize, usize),
}

/// Whose rows have a turn behind the steps.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Turn {
    Instances(usize),
    Undoes(usize),
}

impl Row {
    /// The step of the template that it is, or is made for.
    #[must_use]
    pub const fn of(self) -> usize {
        match self {
            Self::Step(of) | Self::Instance(of, _) | Self::Undo(of, _) => of,
        }
    }
}

impl Template {
    fn turns(&self) -> Vec<Turn> {
        let all = || self.steps.iter().enumerate();
        let is_many = |step: &Definition| matches!(step.kind, Kind::Many { .. });
        let many = all().filter(|(_, step)| is_many(step));
        let undone = all().filter(|(_, step)| step.undo.is_some());
        many.map(|(of, _)| Turn::Instances(of))
            .chain(undone.map(|(of, _)| Turn::Undoes(of)))
            .collect()
    }

    /// What is at a position.
    #[must_use]
    pub fn row(&self, position: usize) -> Row {
        let Some(beyond) = position.checked_sub(self.steps.len()) else {
            return Row::Step(position);
        };
        let turns = self.turns();
        let round = beyond / turns.len() + 1;
        match turns[beyond % turns.len()] {
            Turn::Instances(of) => Row::Instance(of, round),
            Turn::Undoes(of) => Row::Undo(of, round),
        }
    }

    fn position(&self, wanted: Turn, round: usize) -> usize {
        let turns = self.turns();
        let turn = turns.iter().position(|&turn| turn == wanted);
        self.steps.len() + (round - 1) * turns.len() + turn.unwrap_or_default()
    }

    /// The position of an instance.
    #[must_use]
    pub fn instance(&self, of: usize, number: usize) -> usize {
        self.position(Turn::Instances(of), number)
    }

    /// The position of what undoes a step or an instance, if anything does. What stands for instances was not done itself: they were.
    #[must_use]
    pub fn undo_of(&self, position: usize) -> Option<usize> {
        let row = self.row(position);
        let step = &self.steps[row.of()];
        step.undo?;
        match (row, &step.kind) {
            (Row::Undo(..), _) | (Row::Step(_), Kind::Many { .. }) => None,
            (Row::Step(of), _) => Some(self.position(Turn::Undoes(of), 1)),
            (Row::Instance(of, number), _) => Some(self.position(Turn::Undoes(of), number)),
        }
    }

    /// How often what is at a position is tried.
    #[must_use]
    pub fn retry(&self, position: usize) -> Retry {
        let row = self.row(position);
        let step = &self.steps[row.of()];
        match row {
            Row::Undo(..) => step.undo.unwrap_or(step.retry),
            _ => step.retry,
        }
    }
}
