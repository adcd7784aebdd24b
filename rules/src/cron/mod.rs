//! Cron expressions: the local times that one names, and the moments at which they are in a zone.
//!
//! Five fields (minute, hour, day of the month, month, day of the week) or a nickname such as `@daily`, read as cron on Debian reads them (`field.rs`). Times are seconds since
//! 1970; local ones are what a clock in the zone shows, counted as if it were in UTC. A zone is a function that gives its offset from UTC at a moment, so that the caller decides whose
//! rules count. No zone changes its offset twice within two days, or by more than a day.
//!
//! When the clocks change, the rule is Vixie cron's:
//! - An expression whose minute or hour begins with `*` goes by the clock: it runs whenever a clock shows one of its times. An hour that is left out has no runs, an hour that comes twice
//!   has them twice, so that `*/15 * * * *` keeps its quarter of an hour.
//! - Any other one names times of a day, and each of them runs once: one that is left out at the moment the clocks go forward, which several such times share; one that comes twice, the
//!   first time.

mod calendar;
mod field;

use calendar::{CYCLE_DAYS, DAY};
pub use field::CronError;

/// A cron expression that was read. Each field is a set of bits, a bit a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cron {
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    /// Neither of the fields for days begins with `*`: then a day that is in one of them will do.
    is_either_day: bool,
    /// The minute or the hour begins with `*`.
    goes_by_the_clock: bool,
}

impl Cron {
    /// The first moment after another one at which the expression is due.
    pub fn next_after(&self, after: i64, offset_at: impl Fn(i64) -> i64) -> Option<i64> {
        if self.goes_by_the_clock {
            self.next_shown(after, &offset_at)
        } else {
            self.next_named(after, &offset_at)
        }
    }

    /// The last moment after one and not after another at which the expression is due.
    pub fn last_between(
        &self,
        after: i64,
        until: i64,
        offset_at: impl Fn(i64) -> i64,
    ) -> Option<i64> {
        let next_after = |moment| {
            self.next_after(moment, &offset_at)
                .filter(|next| *next <= until)
        };
        // What comes next never moves back when one looks from later on: so halve the span in which the last one is.
        let mut last = next_after(after)?;
        let mut end = until;
        while last < end {
            let middle = last + (end - last) / 2;
            match next_after(middle) {
                Some(next) => last = next,
                None => end = middle,
            }
        }
        Some(last)
    }

    /// For an expression that goes by the clock.
    fn next_shown(&self, after: i64, offset_at: &impl Fn(i64) -> i64) -> Option<i64> {
        let mut from = after + 1;
        loop {
            let offset = offset_at(from);
            let found = self.next_local(from + offset)? - offset;
            let end = change_of_offset(from, from + DAY, offset_at).unwrap_or(from + DAY);
            if found < end {
                return Some(found);
            }
            // Clocks that go back from here on show again, at first, what was looked at above.
            let local = end + offset_at(end);
            let ahead = self.next_local(local)? - local;
            from = end + (ahead - 2 * DAY).max(0);
        }
    }

    /// For an expression that names times of a day.
    fn next_named(&self, after: i64, offset_at: &impl Fn(i64) -> i64) -> Option<i64> {
        let mut local = after + offset_at(after);
        loop {
            local = self.next_local(local + 1)?;
            let found = moment_of(local, offset_at);
            if found > after {
                return Some(found);
            }
        }
    }

    /// The first local time from one on that the expression names, if there is any in a whole cycle of the calendar.
    fn next_local(&self, from: i64) -> Option<i64> {
        // Times are whole minutes.
        let minute = from.div_euclid(60) + i64::from(from.rem_euclid(60) != 0);
        let (day, of_day) = (minute.div_euclid(24 * 60), minute.rem_euclid(24 * 60));
        let at = |day, minute| Some((day * 24 * 60 + minute) * 60);
        if self.is_day(day)
            && let Some(minute) = self.minute_from(of_day)
        {
            return at(day, minute);
        }
        let next = (day + 1..=day + CYCLE_DAYS).find(|day| self.is_day(*day))?;
        at(next, self.minute_from(0)?)
    }

    fn is_day(&self, day: i64) -> bool {
        let date = calendar::date(day);
        if !holds(self.months, date.month) {
            return false;
        }
        let (by_month, by_week) = (
            holds(self.days, date.day),
            holds(self.weekdays, calendar::weekday(day)),
        );
        if self.is_either_day {
            by_month || by_week
        } else {
            by_month && by_week
        }
    }

    /// The first minute of a day from one on.
    fn minute_from(&self, minute: i64) -> Option<i64> {
        let (hour, of_hour) = (minute / 60, minute % 60);
        if holds(self.hours, hour)
            && let Some(minute) = first_from(self.minutes, of_hour)
        {
            return Some(hour * 60 + minute);
        }
        let hour = first_from(self.hours, hour + 1)?;
        Some(hour * 60 + first_from(self.minutes, 0)?)
    }
}

fn holds(set: u64, value: i64) -> bool {
    (set >> value) & 1 == 1
}

/// The least value of a set from one on.
fn first_from(set: u64, value: i64) -> Option<i64> {
    let rest = set >> value;
    (rest != 0).then(|| value + i64::from(rest.trailing_zeros()))
}

/// The first moment at which clocks show a local time; when none does, the one at which they skip it.
fn moment_of(local: i64, offset_at: &impl Fn(i64) -> i64) -> i64 {
    let (before, after) = (offset_at(local - DAY), offset_at(local + DAY));
    let (early, late) = (local - before.max(after), local - before.min(after));
    [early, late]
        .into_iter()
        .find(|moment| moment + offset_at(*moment) == local)
        .unwrap_or_else(|| change_of_offset(early, late, offset_at).unwrap_or(late))
}

/// The first moment after one, and not after another, at which the offset is another; there is one such change between them at most.
fn change_of_offset(from: i64, until: i64, offset_at: &impl Fn(i64) -> i64) -> Option<i64> {
    let offset = offset_at(from);
    if offset_at(until) == offset {
        return None;
    }
    let (mut same, mut other) = (from, until);
    while other - same > 1 {
        let middle = same + (other - same) / 2;
        if offset_at(middle) == offset {
            same = middle;
        } else {
            other = middle;
        }
    }
    Some(other)
}
