//! Keys of tasks and steps, and the order of versions.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use proptest::prelude::*;
use tasker_rules::key::{STEP_BITS, number_of, step_key, task_key, task_of, version_key};

#[test]
fn a_task_key_is_a_uuid_of_version_7_with_its_time_first() {
    let key = task_key(0x0123_4567_89AB, 0xCDE, u64::MAX);
    assert_eq!(format!("{key:032x}"), "0123456789ab7cdebffffffffff00000");
}

#[test]
fn a_step_has_no_key_for_a_number_that_does_not_fit() {
    let task = task_key(1, 2, 3);
    assert_eq!(step_key(task, 0), None);
    assert_eq!(step_key(task, 1 << STEP_BITS), None);
    assert!(step_key(task, (1 << STEP_BITS) - 1).is_some());
    assert_eq!(step_key(task | 1, 1), None);
}

proptest! {
    #[test]
    fn a_step_key_names_its_task_and_its_number(
        time in any::<u64>(), fraction in any::<u16>(), random in any::<u64>(), number in 1_u32..(1 << STEP_BITS),
    ) {
        let task = task_key(time, fraction, random);
        let step = step_key(task, number).unwrap();
        prop_assert_eq!(task_of(step), task);
        prop_assert_eq!(number_of(step), number);
        prop_assert_eq!(number_of(task), 0);
        prop_assert_eq!((step >> 76) & 0xF, 7);
        prop_assert_eq!((step >> 62) & 0b11, 0b10);
    }

    #[test]
    fn keys_sort_by_time(
        earlier in 0_u64..1 << 47, later in 0_u64..1 << 47, one in any::<u64>(), other in any::<u64>(),
    ) {
        prop_assume!(earlier < later);
        prop_assert!(task_key(earlier, 4095, one) < task_key(later, 0, other));
        prop_assert!(task_key(earlier, 1, one) < task_key(earlier, 2, other));
    }

    #[test]
    fn versions_sort_as_the_semver_crate_sorts_them(one in versions(), other in versions()) {
        let ordered = semver::Version::parse(&one).unwrap().cmp_precedence(&semver::Version::parse(&other).unwrap());
        if ordered.is_eq() {
            prop_assert_eq!(version_key(&one) == version_key(&other), one == other);
        } else {
            prop_assert_eq!(version_key(&one).cmp(&version_key(&other)), ordered, "{} {}", one, other);
        }
    }
}

fn versions() -> impl Strategy<Value = String> {
    let number = prop_oneof![
        Just("0"),
        Just("1"),
        Just("2"),
        Just("9"),
        Just("10"),
        Just("99"),
        Just("2026")
    ];
    let identifier = "(0|[1-9][0-9]?|[A-Za-z-]|rc[0-9]|alpha|alphabet|a-b|[0-9]{0,2}[a-z])";
    let pre_release = prop::option::of(prop::collection::vec(identifier, 1..=3));
    let build = prop::option::of("[0-9a-z]{1,3}");
    ([number.clone(), number.clone(), number], pre_release, build).prop_map(
        |(numbers, pre_release, build)| {
            let mut version = numbers.join(".");
            if let Some(identifiers) = pre_release {
                version = format!("{version}-{}", identifiers.join("."));
            }
            build.map_or(version.clone(), |build| format!("{version}+{build}"))
        },
    )
}

#[test]
fn versions_that_are_not_quite_semantic_sort_by_their_numbers() {
    let mut versions = [
        "10",
        "9.1",
        "1.0.0.1",
        "1.0-rc.1",
        "v2",
        "1",
        "1.10",
        "1.9",
        "2024.11.30",
        "1.0.0",
    ];
    versions.sort_by_key(|version| version_key(version));
    assert_eq!(
        versions,
        [
            "1.0-rc.1",
            "1",
            "1.0.0",
            "1.0.0.1",
            "1.9",
            "1.10",
            "v2",
            "9.1",
            "10",
            "2024.11.30"
        ]
    );
}
