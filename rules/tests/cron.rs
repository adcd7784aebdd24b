//! Cron expressions: what can be written, and when it is due in zones whose clocks change, against a walk over every minute.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeSet;

use jiff::Timestamp;
use jiff::civil::{DateTime, date};
use jiff::tz::{AmbiguousOffset, TimeZone};
use proptest::prelude::*;
use tasker_rules::cron::{Cron, CronError};

const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

fn zone(name: &str) -> TimeZone {
    TimeZone::get(name).unwrap()
}

fn offset(zone: &TimeZone, at: i64) -> i64 {
    i64::from(
        zone.to_offset(Timestamp::from_second(at).unwrap())
            .seconds(),
    )
}

fn at(moment: &str) -> i64 {
    moment.parse::<Timestamp>().unwrap().as_second()
}

/// The moments from one on and before another at which an expression is due, as local times with their offset.
fn due(cron: &str, name: &str, from: &str, before: &str) -> Vec<String> {
    let zone = zone(name);
    moments(&cron.parse().unwrap(), &zone, at(from), at(before))
        .into_iter()
        .map(|moment| {
            let shown = Timestamp::from_second(moment).unwrap();
            shown
                .to_zoned_datetime(zone.clone())
                .strftime("%m-%d %H:%M%:z")
                .to_string()
        })
        .collect()
}

fn moments(cron: &Cron, zone: &TimeZone, from: i64, before: i64) -> Vec<i64> {
    let mut found = Vec::new();
    let mut last = from - 1;
    while let Some(next) = cron
        .next_after(last, |at| offset(zone, at))
        .filter(|next| *next < before)
    {
        found.push(next);
        last = next;
    }
    found
}

fn error(cron: &str) -> CronError {
    cron.parse::<Cron>().unwrap_err()
}

#[test]
fn every_form_of_a_field_means_what_it_says() {
    for (written, same) in [
        ("@hourly", "0 * * * *"),
        ("@DAILY", "0 0 * * *"),
        ("@midnight", "0 0 * * *"),
        ("@weekly", "0 0 * * 7"),
        ("@monthly", "0 0 1 * *"),
        ("@yearly", "0 0 1 jan *"),
        ("  1-10/3,50\t2   * *  * ", "1,4,7,10,50 2 * * *"),
        ("0 0 * Mar-MAY *", "0 0 * 3,4,5 *"),
        ("0 0 * * mon-Fri", "0 0 * * 1-5"),
        ("0 0 * * fri-sun", "0 0 * * 0,5,6"),
        ("0 0 * * 5-7", "0 0 * * 0,5,6"),
        ("0 0 * * sun-mon", "0 0 * * 0-1"),
        ("7-7 0 * * 7", "7 0 * * 0"),
    ] {
        assert_eq!(
            written.parse::<Cron>().unwrap(),
            same.parse().unwrap(),
            "{written}"
        );
    }
}

#[test]
fn what_is_no_expression_is_told_with_what_to_write_instead() {
    let unreadable = |field, item: &str| CronError::Unreadable {
        field,
        item: item.to_owned(),
    };
    for (written, problem) in [
        ("", CronError::FieldCount(0)),
        ("0 0 * *", CronError::FieldCount(4)),
        ("0 0 0 * * *", CronError::FieldCount(6)),
        ("@reboot", CronError::UnknownNickname("@reboot".to_owned())),
        ("a 0 * * *", unreadable("minute", "a")),
        ("1,,2 0 * * *", unreadable("minute", "")),
        ("0 -1 * * *", unreadable("hour", "-1")),
        ("0 0 L * *", unreadable("day of the month", "L")),
        ("0 0 * * monday", unreadable("day of the week", "monday")),
        ("0 0 * * 1#2", unreadable("day of the week", "1#2")),
        ("0 0 ? * *", unreadable("day of the month", "?")),
        (
            "0 24 * * *",
            CronError::OutOfRange {
                field: "hour",
                value: 24,
                first: 0,
                last: 23,
            },
        ),
        (
            "0 0 0 * *",
            CronError::OutOfRange {
                field: "day of the month",
                value: 0,
                first: 1,
                last: 31,
            },
        ),
        (
            "0 22-5 * * *",
            CronError::Backwards {
                field: "hour",
                item: "22-5".to_owned(),
            },
        ),
        (
            "5/15 * * * *",
            CronError::StepOfOne {
                item: "5/15".to_owned(),
            },
        ),
        (
            "*/0 * * * *",
            CronError::BadStep {
                item: "*/0".to_owned(),
            },
        ),
        (
            "*/ * * * *",
            CronError::BadStep {
                item: "*/".to_owned(),
            },
        ),
        (
            "0 0 31 feb,apr *",
            CronError::NoSuchDay("0 0 31 feb,apr *".to_owned()),
        ),
    ] {
        assert_eq!(error(written), problem, "{written}");
        assert!(problem.hint().ends_with('.'), "{problem}");
        assert!(!problem.to_string().is_empty());
    }
    assert_eq!(error(&"1,".repeat(600)), CronError::TooLong(1_200));
}

#[test]
fn a_day_in_either_field_will_do_when_both_are_restricted() {
    assert_eq!(
        due(
            "0 6 13 * fri",
            "UTC",
            "2026-02-10T00:00:00Z",
            "2026-02-28T00:00:00Z"
        ),
        [
            "02-13 06:00+00:00",
            "02-20 06:00+00:00",
            "02-27 06:00+00:00"
        ]
    );
    // Where one begins with a star, both must hold: a Friday with an odd number.
    assert_eq!(
        due(
            "0 6 */2 * fri",
            "UTC",
            "2026-02-10T00:00:00Z",
            "2026-02-28T00:00:00Z"
        ),
        ["02-13 06:00+00:00", "02-27 06:00+00:00"]
    );
}

#[test]
fn the_rarest_day_is_found() {
    let cron: Cron = "0 0 29 2 */7".parse().unwrap();
    let first = cron.next_after(at("2072-01-01T00:00:00Z"), |_| 0).unwrap();
    assert_eq!(first, at("2088-02-29T00:00:00Z"));
    // 2100 is no leap year.
    let second = cron.next_after(first, |_| 0).unwrap();
    assert_eq!(second, at("2128-02-29T00:00:00Z"));
}

#[test]
fn a_time_that_is_left_out_runs_once_when_the_clocks_go_forward() {
    let spring = |cron| {
        due(
            cron,
            "Europe/Berlin",
            "2026-03-28T00:00:00Z",
            "2026-03-30T22:00:00Z",
        )
    };
    assert_eq!(
        spring("30 2 * * *"),
        [
            "03-28 02:30+01:00",
            "03-29 03:00+02:00",
            "03-30 02:30+02:00"
        ]
    );
    // Both are left out, and share the moment with the one that is due then.
    assert_eq!(
        spring("0,30 2,3 29 * *"),
        ["03-29 03:00+02:00", "03-29 03:30+02:00"]
    );
    assert_eq!(
        due(
            "15 2 * * *",
            "America/New_York",
            "2026-03-08T05:00:00Z",
            "2026-03-09T12:00:00Z"
        ),
        ["03-08 03:00-04:00", "03-09 02:15-04:00"]
    );
    // Half an hour: 02:00 to 02:30 is left out.
    assert_eq!(
        due(
            "15,45 2 * * *",
            "Australia/Lord_Howe",
            "2026-10-03T14:00:00Z",
            "2026-10-04T12:00:00Z"
        ),
        ["10-04 02:30+11:00", "10-04 02:45+11:00"]
    );
    // A day: Samoa went from the 29th to the 31st.
    assert_eq!(
        due(
            "0 9 * * *",
            "Pacific/Apia",
            "2011-12-29T11:00:00Z",
            "2011-12-31T12:00:00Z"
        ),
        [
            "12-29 09:00-10:00",
            "12-31 00:00+14:00",
            "12-31 09:00+14:00"
        ]
    );
}

#[test]
fn a_time_that_comes_twice_runs_the_first_time() {
    assert_eq!(
        due(
            "30 2 * * *",
            "Europe/Berlin",
            "2026-10-24T12:00:00Z",
            "2026-10-26T12:00:00Z"
        ),
        ["10-25 02:30+02:00", "10-26 02:30+01:00"]
    );
    assert_eq!(
        due(
            "30 1,3 * * *",
            "America/New_York",
            "2026-11-01T04:00:00Z",
            "2026-11-02T05:00:00Z"
        ),
        ["11-01 01:30-04:00", "11-01 03:30-05:00"]
    );
    assert_eq!(
        due(
            "35,45 1 * * *",
            "Australia/Lord_Howe",
            "2026-04-04T12:00:00Z",
            "2026-04-05T12:00:00Z"
        ),
        ["04-05 01:35+11:00", "04-05 01:45+11:00"]
    );
}

#[test]
fn what_goes_by_the_clock_keeps_its_pace_through_a_change() {
    assert_eq!(
        due(
            "0 * * * *",
            "Europe/Berlin",
            "2026-03-28T23:30:00Z",
            "2026-03-29T02:30:00Z"
        ),
        [
            "03-29 01:00+01:00",
            "03-29 03:00+02:00",
            "03-29 04:00+02:00"
        ]
    );
    assert_eq!(
        due(
            "0 * * * *",
            "Europe/Berlin",
            "2026-10-24T23:30:00Z",
            "2026-10-25T02:30:00Z"
        ),
        [
            "10-25 02:00+02:00",
            "10-25 02:00+01:00",
            "10-25 03:00+01:00"
        ]
    );
    // The minute begins with a star, so the hour that is left out has no runs.
    assert_eq!(
        due(
            "*/30 2 * * *",
            "Europe/Berlin",
            "2026-03-28T12:00:00Z",
            "2026-03-30T01:00:00Z"
        ),
        ["03-30 02:00+02:00", "03-30 02:30+02:00"]
    );
}

/// What the search relies on, of every zone there is.
#[test]
fn no_zone_changes_its_offset_twice_within_two_days_or_by_more_than_a_day() {
    let (begin, end) = (at("1990-01-01T00:00:00Z"), at("2038-01-01T00:00:00Z"));
    for name in jiff::tz::db().available() {
        let zone = zone(name.as_str());
        let mut last = (begin, offset(&zone, begin));
        for change in zone.following(Timestamp::from_second(begin).unwrap()) {
            let moment = change.timestamp().as_second();
            if moment > end {
                break;
            }
            let now = i64::from(change.offset().seconds());
            if now != last.1 {
                assert!((now - last.1).abs() <= DAY, "{name}");
                assert!(
                    last.0 == begin || moment - last.0 > 2 * DAY,
                    "{name} {moment}"
                );
                last = (moment, now);
            }
        }
    }
}

/// A field as it is written, and the values in it.
#[derive(Debug, Clone)]
struct Written {
    text: String,
    values: BTreeSet<i8>,
}

impl Written {
    fn begins_with_star(&self) -> bool {
        self.text.starts_with('*')
    }
}

fn field(first: i8, last: i8) -> impl Strategy<Value = Written> {
    let all = move || first..=last;
    prop_oneof![
        2 => Just(Written { text: "*".to_owned(), values: all().collect() }),
        1 => (1..=last).prop_map(move |step| Written {
            text: format!("*/{step}"),
            values: all().step_by(step as usize).collect(),
        }),
        4 => prop::collection::vec((first..=last, 0..=6i8, 1..=3i8), 1..4).prop_map(move |items| {
            let mut values = BTreeSet::new();
            let mut texts = Vec::new();
            for (begin, length, step) in items {
                let end = (begin + length).min(last);
                values.extend((begin..=end).step_by(step as usize));
                texts.push(match (length, step) {
                    (0, _) => begin.to_string(),
                    (_, 1) => format!("{begin}-{end}"),
                    _ => format!("{begin}-{end}/{step}"),
                });
            }
            Written { text: texts.join(","), values }
        }),
    ]
}

/// An expression as five fields.
type Fields = [Written; 5];

fn expression() -> impl Strategy<Value = Fields> {
    (
        field(0, 59),
        field(0, 23),
        field(1, 31),
        field(1, 12),
        field(0, 7),
    )
        .prop_map(|(minute, hour, day, month, weekday)| [minute, hour, day, month, weekday])
}

fn is_named(fields: &Fields, local: DateTime) -> bool {
    let [minute, hour, day, month, weekday] = fields;
    let sunday_zero = local.weekday().to_sunday_zero_offset();
    let by_month = day.values.contains(&local.day());
    let by_week =
        weekday.values.contains(&sunday_zero) || (sunday_zero == 0 && weekday.values.contains(&7));
    let either = !day.begins_with_star() && !weekday.begins_with_star();
    let is_day = if either {
        by_month || by_week
    } else {
        by_month && by_week
    };
    is_day
        && minute.values.contains(&local.minute())
        && hour.values.contains(&local.hour())
        && month.values.contains(&local.month())
}

/// By walking over every minute: of the moments, or of the local times.
fn reference(fields: &Fields, zone: &TimeZone, from: i64, before: i64) -> BTreeSet<i64> {
    if fields[0].begins_with_star() || fields[1].begins_with_star() {
        let first = from + (-from).rem_euclid(MINUTE);
        return (first..before)
            .step_by(MINUTE as usize)
            .filter(|moment| {
                let shown = Timestamp::from_second(*moment).unwrap();
                is_named(fields, shown.to_zoned_datetime(zone.clone()).datetime())
            })
            .collect();
    }
    let midnight = date(1970, 1, 1).at(0, 0, 0, 0);
    let minutes = (from - 2 * DAY) / MINUTE..(before + 2 * DAY) / MINUTE;
    minutes
        .map(|minute| midnight + jiff::Span::new().minutes(minute))
        .filter(|local| is_named(fields, *local))
        .map(|local| first_moment(zone, local))
        .filter(|moment| (from..before).contains(moment))
        .collect()
}

fn first_moment(zone: &TimeZone, local: DateTime) -> i64 {
    let by = |offset: jiff::tz::Offset| offset.to_timestamp(local).unwrap();
    match zone.to_ambiguous_timestamp(local).offset() {
        AmbiguousOffset::Unambiguous { offset } => by(offset).as_second(),
        AmbiguousOffset::Fold { before, .. } => by(before).as_second(),
        AmbiguousOffset::Gap { after, .. } => {
            let change = zone.following(by(after)).next().unwrap();
            change.timestamp().as_second()
        }
    }
}

/// A zone, and a moment near which its clocks change.
fn places() -> impl Strategy<Value = (&'static str, i64)> {
    prop::sample::select(vec![
        ("UTC", "2026-02-27T00:00:00Z"),
        ("Europe/Berlin", "2026-03-29T01:00:00Z"),
        ("Europe/Berlin", "2026-10-25T01:00:00Z"),
        ("America/New_York", "2026-03-08T07:00:00Z"),
        ("America/New_York", "2026-11-01T06:00:00Z"),
        ("America/St_Johns", "2006-10-29T02:31:00Z"),
        ("Australia/Lord_Howe", "2026-10-03T15:30:00Z"),
        ("Australia/Lord_Howe", "2026-04-04T15:00:00Z"),
        ("America/Sao_Paulo", "2018-11-04T03:00:00Z"),
        ("America/Sao_Paulo", "2018-02-18T02:00:00Z"),
        ("Asia/Kathmandu", "2026-12-31T18:15:00Z"),
        ("Pacific/Apia", "2011-12-30T10:00:00Z"),
        ("Antarctica/Troll", "2026-03-29T01:00:00Z"),
        ("Africa/Casablanca", "2026-02-15T02:00:00Z"),
    ])
    .prop_map(|(name, moment)| (name, at(moment)))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(120))]

    #[test]
    fn the_moments_are_those_of_a_walk_over_every_minute(
        fields in expression(), (name, change) in places(), before in 0..3 * DAY, length in 1..4 * DAY
    ) {
        let text = fields.each_ref().map(|field| field.text.as_str()).join(" ");
        let Ok(cron) = text.parse::<Cron>() else {
            // Drawn so that no day is meant.
            return Ok(());
        };
        let zone = zone(name);
        let (from, to) = (change - before, change - before + length);
        let expected: Vec<i64> = reference(&fields, &zone, from, to).into_iter().collect();
        prop_assert_eq!(moments(&cron, &zone, from, to), expected.clone(), "{} in {}", text, name);
        let last = cron.last_between(from - 1, to - 1, |at| offset(&zone, at));
        prop_assert_eq!(last, expected.last().copied(), "{} in {}", text, name);
    }

    #[test]
    fn no_text_brings_the_reader_down(text in "[-0-9a-z@*/, ]{0,30}|\\PC{0,20}") {
        if let Ok(cron) = text.parse::<Cron>() {
            prop_assert!(cron.next_after(0, |_| 0).is_some());
        }
    }
}
