//! Cron expressions once more: the minutes that one names, found by looking at every minute.

use std::collections::BTreeSet;

/// Minutes since 1970.
pub type Minutes = i64;

/// A minute as two clocks show it.
#[derive(Debug, Clone, Copy)]
pub struct Shown {
    /// The moment, in minutes since 1970.
    pub moment: Minutes,
    /// What the clock of a zone shows, as minutes since it showed the beginning of 1970.
    pub clock: Minutes,
}

/// An expression.
#[derive(Debug, Clone)]
pub struct Expression {
    fields: [BTreeSet<i64>; 5],
    begins_with_star: [bool; 5],
}

const BOUNDS: [(i64, i64); 5] = [(0, 59), (0, 23), (1, 31), (1, 12), (0, 7)];
const NICKNAMES: [(&str, &str); 5] = [
    ("@hourly", "0 * * * *"),
    ("@daily", "0 0 * * *"),
    ("@weekly", "0 0 * * 0"),
    ("@monthly", "0 0 1 * *"),
    ("@yearly", "0 0 1 1 *"),
];
const NAMES: [&str; 19] = [
    "sun", "mon", "tue", "wed", "thu", "fri", "sat", "jan", "feb", "mar", "apr", "may", "jun",
    "jul", "aug", "sep", "oct", "nov", "dec",
];

fn value(text: &str) -> i64 {
    match NAMES.iter().position(|name| *name == text) {
        Some(day @ 0..7) => day as i64,
        Some(month) => month as i64 - 6,
        None => text.parse().unwrap_or(-1),
    }
}

fn values(field: &str, (least, most): (i64, i64)) -> BTreeSet<i64> {
    let mut all = BTreeSet::new();
    for part in field.split(',') {
        let (range, step) = part.split_once('/').unwrap_or((part, "1"));
        let (from, to) = match range.split_once('-') {
            _ if range == "*" => (least, most),
            Some((from, to)) => (value(from), value(to)),
            None => (value(range), value(range)),
        };
        all.extend((from..=to).step_by(value(step).max(1) as usize));
    }
    all
}

impl Expression {
    /// Reads one that is right.
    #[must_use]
    pub fn read(text: &str) -> Self {
        let nickname = NICKNAMES.iter().find(|(nickname, _)| *nickname == text);
        let mut texts = nickname.map_or(text, |(_, text)| text).split(' ');
        let texts = [0; 5].map(|_| texts.next().unwrap_or("*"));
        let mut fields: [BTreeSet<i64>; 5] = Default::default();
        for (index, text) in texts.iter().enumerate() {
            fields[index] = values(text, BOUNDS[index]);
        }
        Self {
            fields,
            begins_with_star: texts.map(|text| text.starts_with('*')),
        }
    }

    fn has_day(&self, clock: Minutes) -> bool {
        let days = clock.div_euclid(1440);
        let (month, day) = date(days);
        // 1970 began on a Thursday.
        let weekday = (days + 4).rem_euclid(7);
        let of_month = self.fields[2].contains(&day);
        let of_week =
            self.fields[4].contains(&weekday) || weekday == 0 && self.fields[4].contains(&7);
        let is_one_of_them = if self.begins_with_star[2] || self.begins_with_star[4] {
            of_month && of_week
        } else {
            of_month || of_week
        };
        self.fields[3].contains(&month) && is_one_of_them
    }

    fn names(&self, clock: Minutes) -> bool {
        let minute = clock.rem_euclid(1440);
        self.fields[0].contains(&(minute % 60))
            && self.fields[1].contains(&(minute / 60))
            && self.has_day(clock)
    }

    /// The moments that it names, of minutes that follow one another.
    #[must_use]
    pub fn moments(&self, minutes: &[Shown]) -> Vec<Minutes> {
        if self.begins_with_star[0] || self.begins_with_star[1] {
            let named = minutes.iter().filter(|shown| self.names(shown.clock));
            return named.map(|shown| shown.moment).collect();
        }
        // Each time of a day once: when the clock reaches or passes it for the first time.
        let mut latest = minutes.first().map_or(0, |shown| shown.clock - 1);
        let mut moments = Vec::new();
        for shown in minutes {
            if (latest + 1..=shown.clock).any(|clock| self.names(clock)) {
                moments.push(shown.moment);
            }
            latest = latest.max(shown.clock);
        }
        moments
    }
}

/// The month and the day of the month of a day since 1970.
fn date(days: i64) -> (i64, i64) {
    let mut year = 1970;
    let mut left = days;
    loop {
        let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let february = if is_leap { 29 } else { 28 };
        for (month, length) in (1..).zip([31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]) {
            if left < length {
                return (month, left + 1);
            }
            left -= length;
        }
        year += 1;
    }
}
