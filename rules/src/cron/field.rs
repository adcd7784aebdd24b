//! Reading a cron expression: a list of values, ranges and steps for each of its fields.
//!
//! A field is a comma-separated list of `*`, `n` and `n-m`; `/s` after a `*` or a range takes every s-th value of it. Months and days of the week also go by the first three
//! letters of their English names, in any case. Sunday is 0 and 7.

use super::{CYCLE_DAYS, Cron};

/// Longer expressions are refused: none that means something is.
const MAX_LENGTH: usize = 1_000;

/// What stands for five fields.
const NICKNAMES: [(&str, &str); 7] = [
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
    ("@monthly", "0 0 1 * *"),
    ("@weekly", "0 0 * * 0"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@hourly", "0 * * * *"),
];

/// A field: what it is called, its least and its greatest value, and the names of its values, which begin with the least.
struct Field {
    name: &'static str,
    first: u32,
    last: u32,
    names: &'static [&'static str],
}

const MINUTE: Field = Field {
    name: "minute",
    first: 0,
    last: 59,
    names: &[],
};
const HOUR: Field = Field {
    name: "hour",
    first: 0,
    last: 23,
    names: &[],
};
const DAY_OF_MONTH: Field = Field {
    name: "day of the month",
    first: 1,
    last: 31,
    names: &[],
};
const MONTH: Field = Field {
    name: "month",
    first: 1,
    last: 12,
    names: &[
        "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
    ],
};
const DAY_OF_WEEK: Field = Field {
    name: "day of the week",
    first: 0,
    last: 7,
    names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"],
};

/// Why a text is no cron expression.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CronError {
    /// It is longer than any that means something.
    #[error("a cron expression has at most {MAX_LENGTH} characters, not {0}")]
    TooLong(usize),
    /// It hasn't five fields.
    #[error("a cron expression has five fields, not {0}")]
    FieldCount(usize),
    /// It begins with `@` and is none of the nicknames.
    #[error("cron has no nickname {0}")]
    UnknownNickname(String),
    /// An item of a field is neither a value nor a range.
    #[error("{item:?} can not be read as {field}")]
    Unreadable {
        /// What the field is called.
        field: &'static str,
        /// The item.
        item: String,
    },
    /// A value is outside of its field.
    #[error("{value} is no {field}: that is {first} to {last}")]
    OutOfRange {
        /// What the field is called.
        field: &'static str,
        /// The value.
        value: u32,
        /// The field's least value.
        first: u32,
        /// The field's greatest value.
        last: u32,
    },
    /// A range ends before it begins.
    #[error("the range {item} of {field} ends before it begins")]
    Backwards {
        /// What the field is called.
        field: &'static str,
        /// The range.
        item: String,
    },
    /// A step follows a single value.
    #[error("the step in {item} has no range")]
    StepOfOne {
        /// The value and its step.
        item: String,
    },
    /// A step isn't a whole number above zero.
    #[error("the step in {item} must be a whole number above zero")]
    BadStep {
        /// The range and its step.
        item: String,
    },
    /// No calendar has such a day.
    #[error("no day of any year is meant by {0}")]
    NoSuchDay(String),
}

impl CronError {
    /// What to write instead.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::TooLong(_) | Self::FieldCount(_) => {
                "Give minute, hour, day of the month, month and day of the week: 30 2 * * mon-fri is half past two on working days."
            }
            Self::UnknownNickname(_) => {
                "There are @hourly, @daily (@midnight), @weekly, @monthly and @yearly (@annually)."
            }
            Self::Unreadable { .. } => {
                "A field is a list of *, n, n-m, */s and n-m/s; months are also jan to dec, days of the week sun to sat."
            }
            Self::OutOfRange { .. } => "Sunday is 0 or 7; hours are 0 to 23.",
            Self::Backwards { .. } => "Give two ranges, such as 22-23,0-5.",
            Self::StepOfOne { .. } => "Give the range, such as 5-59/15, or */15.",
            Self::BadStep { .. } => "*/15 in the first field is every quarter of an hour.",
            Self::NoSuchDay(_) => {
                "April, June, September and November have 30 days, February has 28 or 29."
            }
        }
    }
}

impl std::str::FromStr for Cron {
    type Err = CronError;

    fn from_str(text: &str) -> Result<Self, CronError> {
        let length = text.chars().count();
        if length > MAX_LENGTH {
            return Err(CronError::TooLong(length));
        }
        let text = text.trim();
        if text.starts_with('@') {
            let lower = text.to_ascii_lowercase();
            return match NICKNAMES.iter().find(|(name, _)| *name == lower) {
                Some((_, fields)) => fields.parse(),
                None => Err(CronError::UnknownNickname(text.to_owned())),
            };
        }
        let fields: Vec<&str> = text.split_ascii_whitespace().collect();
        let &[minute, hour, day, month, weekday] = fields.as_slice() else {
            return Err(CronError::FieldCount(fields.len()));
        };
        let begins_with_star = |field: &str| field.starts_with('*');
        let weekdays = DAY_OF_WEEK.read(weekday)?;
        let cron = Self {
            minutes: MINUTE.read(minute)?,
            hours: HOUR.read(hour)?,
            days: DAY_OF_MONTH.read(day)?,
            months: MONTH.read(month)?,
            weekdays: (weekdays | (weekdays >> 7)) & 0b111_1111,
            is_either_day: !begins_with_star(day) && !begins_with_star(weekday),
            goes_by_the_clock: begins_with_star(minute) || begins_with_star(hour),
        };
        if (0..CYCLE_DAYS).any(|day| cron.is_day(day)) {
            Ok(cron)
        } else {
            Err(CronError::NoSuchDay(text.to_owned()))
        }
    }
}

impl Field {
    /// The values of a list.
    fn read(&self, list: &str) -> Result<u64, CronError> {
        list.split(',')
            .try_fold(0, |set, item| Ok(set | self.item(item)?))
    }

    fn item(&self, item: &str) -> Result<u64, CronError> {
        let (range, step) = match item.split_once('/') {
            Some((range, step)) => (range, Some(step)),
            None => (item, None),
        };
        let (first, last) = match range.split_once('-') {
            _ if range == "*" => (self.first, self.last),
            Some((first, last)) => self.range(item, first, last)?,
            None if step.is_some() => {
                self.value(item, range)?;
                return Err(CronError::StepOfOne {
                    item: item.to_owned(),
                });
            }
            None => {
                let value = self.value(item, range)?;
                (value, value)
            }
        };
        let step = match step.map(number) {
            None => 1,
            Some(Some(step)) if step > 0 => step,
            Some(_) => {
                return Err(CronError::BadStep {
                    item: item.to_owned(),
                });
            }
        };
        Ok((first..=last)
            .step_by(step as usize)
            .fold(0, |set, value| set | (1 << value)))
    }

    fn range(&self, item: &str, first: &str, last: &str) -> Result<(u32, u32), CronError> {
        let begin = self.value(item, first)?;
        let end = match self.value(item, last)? {
            // By its name, Sunday is the last day of the week here.
            0 if begin > 0 && !self.names.is_empty() && number(last).is_none() => self.last,
            end => end,
        };
        if end < begin {
            return Err(CronError::Backwards {
                field: self.name,
                item: item.to_owned(),
            });
        }
        Ok((begin, end))
    }

    fn value(&self, item: &str, text: &str) -> Result<u32, CronError> {
        let named = || {
            (self.first..)
                .zip(self.names)
                .find(|(_, name)| text.eq_ignore_ascii_case(name))
                .map(|(value, _)| value)
        };
        let value = number(text)
            .or_else(named)
            .ok_or_else(|| CronError::Unreadable {
                field: self.name,
                item: item.to_owned(),
            })?;
        if (self.first..=self.last).contains(&value) {
            Ok(value)
        } else {
            Err(CronError::OutOfRange {
                field: self.name,
                value,
                first: self.first,
                last: self.last,
            })
        }
    }
}

/// A number of one to nine digits, and of nothing else.
fn number(text: &str) -> Option<u32> {
    let is_number = (1..=9).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().ok()).flatten()
}
