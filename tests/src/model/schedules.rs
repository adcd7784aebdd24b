//! Schedules once more: which of its times one creates tasks for, and when.

use std::collections::BTreeSet;

use super::Millis;
use super::cron::Minutes;

const MINUTE: Millis = 60_000;
/// So many missed times are run in one go.
const IN_ONE_GO: usize = 10;

/// What becomes of missed times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CatchUp {
    /// Nothing.
    None,
    /// The last of them has its task.
    One,
    /// Each has its task.
    All,
}

impl CatchUp {
    /// As it is written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::One => "one",
            Self::All => "all",
        }
    }
}

/// A schedule.
#[derive(Debug)]
pub struct Schedule {
    /// Its name.
    pub name: String,
    /// What becomes of missed times.
    pub catch_up: CatchUp,
    /// All times that its expression names, in milliseconds since 1970.
    pub times: Vec<Millis>,
    /// The times that have had their tasks, in the order in which these were created.
    pub created: Vec<Millis>,
    /// The next time that maintenance is to see to.
    pub next: Millis,
    /// Whether it is paused.
    pub is_paused: bool,
}

impl Schedule {
    /// One that is made now.
    #[must_use]
    pub fn new(name: String, catch_up: CatchUp, moments: &[Minutes], now: Millis) -> Self {
        let mut schedule = Self {
            name,
            catch_up,
            times: moments.iter().map(|&moment| moment * MINUTE).collect(),
            created: Vec::new(),
            next: 0,
            is_paused: false,
        };
        schedule.next = schedule.first_after(now);
        schedule
    }

    fn first_after(&self, time: Millis) -> Millis {
        let next = self.times.iter().copied().find(|&each| each > time);
        next.unwrap_or(Millis::MAX)
    }

    /// Whether maintenance has something to do.
    #[must_use]
    pub const fn is_due(&self, now: Millis) -> bool {
        !self.is_paused && self.next <= now
    }

    /// Maintenance sees to it once.
    pub fn run(&mut self, now: Millis) {
        let come: Vec<Millis> = self
            .times
            .iter()
            .copied()
            .filter(|&time| self.next <= time && time <= now)
            .collect();
        let Some(&last) = come.last() else {
            return;
        };
        match self.catch_up {
            CatchUp::All => {
                let due = &come[..come.len().min(IN_ONE_GO)];
                self.created.extend(due);
                self.next = self.first_after(due[due.len() - 1]);
            }
            CatchUp::None if last + MINUTE < now => self.next = self.first_after(now),
            CatchUp::None | CatchUp::One => {
                self.created.push(last);
                self.next = self.first_after(now);
            }
        }
    }

    /// Creates tasks for the times from one on and before another that have had none, and that maintenance will not see to; says how many.
    pub fn backfill(&mut self, from: Millis, to: Millis, now: Millis) -> usize {
        let before = if self.is_paused {
            self.next.max(self.first_after(to.min(now) - 1))
        } else {
            self.next
        };
        let has_task: BTreeSet<Millis> = self.created.iter().copied().collect();
        let open: Vec<Millis> = self
            .times
            .iter()
            .copied()
            .filter(|time| from <= *time && *time < to.min(before) && !has_task.contains(time))
            .collect();
        if !open.is_empty() {
            self.next = before;
        }
        self.created.extend(&open);
        open.len()
    }
}
