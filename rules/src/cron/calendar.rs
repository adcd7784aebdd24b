//! Days of the Gregorian calendar, counted from 1970-01-01.

/// A day in seconds.
pub(super) const DAY: i64 = 24 * 60 * 60;

/// After so many days the calendar repeats, weekdays included: 400 years.
pub(super) const CYCLE_DAYS: i64 = 146_097;

/// What of a date cron looks at; both count from 1.
pub(super) struct Date {
    pub(super) month: i64,
    pub(super) day: i64,
}

/// The date of a day. The formula is that of H. Hinnant's `civil_from_days`: years begin in March, so that the leap day is their last.
pub(super) fn date(day: i64) -> Date {
    // From 0000-03-01.
    let of_cycle = (day + 719_468).rem_euclid(CYCLE_DAYS);
    let year = (of_cycle - of_cycle / 1_460 + of_cycle / 36_524 - of_cycle / 146_096) / 365;
    let of_year = of_cycle - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    Date {
        month: if month < 10 { month + 3 } else { month - 9 },
        day: of_year - (153 * month + 2) / 5 + 1,
    }
}

/// The day of the week; 0 is Sunday.
pub(super) fn weekday(day: i64) -> i64 {
    (day + 4).rem_euclid(7)
}
