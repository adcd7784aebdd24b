//! Times as results tell them: text with an offset, or seconds since 1970.

use serde_json::Value;

/// The greatest time that is read, in microseconds since 1970: the end of the year 9999.
const MAX_MICROSECONDS: i64 = 253_402_300_800_000_000 - 1;
const MAX_SECONDS: f64 = 253_402_300_800.0;
const MICROSECONDS: i64 = 1_000_000;

/// A time in microseconds since 1970; `None` for what is none. Text is `2031-05-06T07:08:09.25Z`, or with an offset as `+02:00`; without one it would mean nothing. A number is in seconds.
/// Times before 1970 are none.
#[must_use]
pub fn read(value: &Value) -> Option<i64> {
    let microseconds = match value {
        Value::String(text) => of_text(text)?,
        Value::Number(number) => of_seconds(number.as_f64()?)?,
        _ => return None,
    };
    (0..=MAX_MICROSECONDS)
        .contains(&microseconds)
        .then_some(microseconds)
}

fn of_seconds(seconds: f64) -> Option<i64> {
    (0.0..MAX_SECONDS)
        .contains(&seconds)
        .then(|| (seconds * 1_000_000.0).round() as i64)
}

fn of_text(text: &str) -> Option<i64> {
    let (date, rest) = text.split_at_checked(10)?;
    let rest = rest.strip_prefix(['T', 't', ' '])?;
    let at = rest.find(['Z', 'z', '+', '-'])?;
    let (clock, offset) = rest.split_at(at);
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, ""));
    let [hour, minute, second] = numbers(clock, ':', [2, 2, 2])?;
    // A leap second is the next one.
    let fits = hour < 24 && minute < 60 && second <= 60;
    if !fits || (fraction.is_empty() && rest.contains('.')) {
        return None;
    }
    let seconds = days(date)? * 86_400 + hour * 3600 + minute * 60 + second - of_offset(offset)?;
    Some(seconds * MICROSECONDS + of_fraction(fraction)?)
}

/// So many parts of digits, each as long as said.
fn numbers<const N: usize>(text: &str, separator: char, lengths: [usize; N]) -> Option<[i64; N]> {
    let mut read = [0; N];
    let mut parts = text.split(separator);
    for (number, length) in read.iter_mut().zip(lengths) {
        let part = parts.next()?;
        if part.len() != length || !part.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        *number = part.parse().ok()?;
    }
    parts.next().is_none().then_some(read)
}

/// Days since 1970, in the Gregorian calendar.
fn days(date: &str) -> Option<i64> {
    let [year, month, day] = numbers(date, '-', [4, 2, 2])?;
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let length = match month {
        2 => 28 + i64::from(is_leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if !(1..=length).contains(&day) {
        return None;
    }
    // Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", days_from_civil: years begin in March.
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    Some(era * 146_097 + day_of_era - 719_468)
}

/// Seconds east of Greenwich.
fn of_offset(text: &str) -> Option<i64> {
    if matches!(text, "Z" | "z") {
        return Some(0);
    }
    let (sign, text) = text.split_at_checked(1)?;
    let [hours, minutes] = match text.len() {
        2 => [numbers(text, ':', [2])?[0], 0],
        4 => [
            numbers(text.get(..2)?, ':', [2])?[0],
            numbers(text.get(2..)?, ':', [2])?[0],
        ],
        _ => numbers(text, ':', [2, 2])?,
    };
    let seconds = hours * 3600 + minutes * 60;
    (hours < 24 && minutes < 60).then_some(if sign == "-" { -seconds } else { seconds })
}

/// Microseconds of a part of a second; what is finer is left out.
fn of_fraction(digits: &str) -> Option<i64> {
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let padded: String = digits.chars().chain("000000".chars()).take(6).collect();
    padded.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_time_is_read_with_its_offset_and_its_fraction() {
        for (text, microseconds) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2000-02-29 12:00:00.5+00", 951_825_600_500_000),
            ("2026-11-28T05:16:14+01:00", 1_795_839_374_000_000),
            ("2026-11-28T04:16:14.000000Z", 1_795_839_374_000_000),
            ("2026-11-27T22:46:14-0530", 1_795_839_374_000_000),
            ("9999-12-31T23:59:59.9999999Z", MAX_MICROSECONDS),
        ] {
            assert_eq!(read(&json!(text)), Some(microseconds), "{text}");
        }
    }

    #[test]
    fn a_number_is_in_seconds() {
        assert_eq!(read(&json!(1_795_839_374)), Some(1_795_839_374_000_000));
        assert_eq!(read(&json!(0.25)), Some(250_000));
    }

    #[test]
    fn what_is_no_time_is_none() {
        for value in [
            json!(null),
            json!(true),
            json!({}),
            json!(-1),
            json!(1e300),
            json!("tomorrow"),
            json!("2026-11-28"),
            json!("2026-11-28T04:16:14"),
            json!("2026-02-29T00:00:00Z"),
            json!("2026-13-01T00:00:00Z"),
            json!("2026-11-28T24:00:00Z"),
            json!("2026-11-28T04:16Z"),
            json!("2026-11-28T04:16:14.Z"),
            json!("2026-11-28T04:16:14+1"),
            json!("2026-11-28T04:16:14+25:00"),
            json!("1969-12-31T23:59:59Z"),
            json!("é2026-11-28T04:16:14Z"),
        ] {
            assert_eq!(read(&value), None, "{value}");
        }
    }
}
