//! The moments that cron expressions name, asked by SQL. The rule lives in `tasker_rules`; a zone's rules are PostgreSQL's own, the same that `at time zone` goes by.

use std::ffi::CString;
use std::ptr::NonNull;

use pgrx::datum::TimestampWithTimeZone;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{pg_extern, pg_sys};
use tasker_rules::cron::{Cron, CronError};

use crate::error::Error;
use crate::values;

/// From 1970, where the rules count seconds from, to 2000, where PostgreSQL counts microseconds from.
const SECONDS_TO_2000: i64 = 946_684_800;
const MICROSECONDS: i64 = 1_000_000;

/// An expression in a zone.
struct Timetable {
    cron: Cron,
    zone: NonNull<pg_sys::pg_tz>,
}

impl Timetable {
    fn read(cron: &str, timezone: &str) -> Result<Self, Error> {
        let unknown = || Error::ZoneUnknown(timezone.to_owned());
        let name = CString::new(timezone).map_err(|_| unknown())?;
        // SAFETY: a name that ends in a zero byte. What is found stays in PostgreSQL's cache for as long as this process lives.
        let zone = unsafe { pg_sys::pg_tzset(name.as_ptr()) };
        Ok(Self {
            cron: cron.parse()?,
            zone: NonNull::new(zone).ok_or_else(unknown)?,
        })
    }

    /// The zone's offset from UTC in seconds at a moment; beyond the times that have a date, none.
    fn offset_at(&self, moment: i64) -> i64 {
        // SAFETY: the answer is PostgreSQL's own, read before anybody can ask again.
        unsafe { pg_sys::pg_localtime(&raw const moment, self.zone.as_ptr()).as_ref() }
            .map_or(0, |local| local.tm_gmtoff)
    }

    fn next_after(&self, after: i64) -> Option<i64> {
        self.cron.next_after(after, |moment| self.offset_at(moment))
    }
}

/// The last whole second, from 1970, that isn't after a time.
fn seconds(time: TimestampWithTimeZone) -> i64 {
    floor(pg_sys::TimestampTz::from(time))
}

/// The last whole second before a time: whoever looks after it finds the time itself, too.
fn seconds_before(time: TimestampWithTimeZone) -> i64 {
    floor(pg_sys::TimestampTz::from(time).saturating_sub(1))
}

fn floor(time: pg_sys::TimestampTz) -> i64 {
    time.div_euclid(MICROSECONDS) + SECONDS_TO_2000
}

fn time(seconds: i64) -> Result<TimestampWithTimeZone, Error> {
    (seconds - SECONDS_TO_2000)
        .checked_mul(MICROSECONDS)
        .and_then(|time| TimestampWithTimeZone::try_from(time).ok())
        .ok_or(Error::TimeOutOfRange)
}

/// How a cron expression is refused; null when it can be read.
#[pg_extern(immutable, parallel_safe)]
fn _cron_problem(cron: &str) -> Result<Option<Vec<Option<String>>>, ErrorReport> {
    let read = cron.parse::<Cron>().map(drop).map_err(|error: CronError| {
        Error::refused("22023", error.to_string(), None, Some(error.hint()))
    });
    Ok(values::refused(read)?)
}

/// The first time after another one at which an expression is due in a zone.
#[pg_extern(stable, parallel_safe)]
fn _next_cron(
    cron: &str,
    timezone: &str,
    after: TimestampWithTimeZone,
) -> Result<Option<TimestampWithTimeZone>, ErrorReport> {
    let table = Timetable::read(cron, timezone)?;
    Ok(table.next_after(seconds(after)).map(time).transpose()?)
}

/// The last time after one and not after another at which an expression is due in a zone.
#[pg_extern(stable, parallel_safe)]
fn _last_cron(
    cron: &str,
    timezone: &str,
    after: TimestampWithTimeZone,
    until: TimestampWithTimeZone,
) -> Result<Option<TimestampWithTimeZone>, ErrorReport> {
    let table = Timetable::read(cron, timezone)?;
    let last = table
        .cron
        .last_between(seconds(after), seconds(until), |moment| {
            table.offset_at(moment)
        });
    Ok(last.map(time).transpose()?)
}

/// The times from one on and before another at which an expression is due in a zone, the first so many of them.
#[pg_extern(stable, parallel_safe)]
fn _cron_times(
    cron: &str,
    timezone: &str,
    from: TimestampWithTimeZone,
    before: TimestampWithTimeZone,
    most: i32,
) -> Result<Vec<TimestampWithTimeZone>, ErrorReport> {
    let table = Timetable::read(cron, timezone)?;
    let until = seconds_before(before);
    let following = |after: &i64| table.next_after(*after);
    let times = std::iter::successors(table.next_after(seconds_before(from)), following)
        .take_while(|next| *next <= until)
        .take(usize::try_from(most).unwrap_or(0));
    Ok(times.map(time).collect::<Result<_, Error>>()?)
}
