//! The house keeps its shape: who may know whom, where SQL lives, how long a file may be. The rules are those of ARCHITECTURE.md.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

const FRONT_DOORS: [&str; 4] = [
    "tasker-server",
    "tasker-cli",
    "tasker-worker",
    "tasker-worker-runtime",
];
/// Files above this are too long, whatever the reason.
const LINES_MAX: usize = 600;
/// A generated text or one that is kept as its authors wrote it has the length that it has.
const MAY_BE_LONGER: [&str; 2] = ["migrations/0001_pgmq.sql", "Cargo.lock"];
/// The scripts of released versions, each in one piece, and those between them, which are written by a command.
const SCRIPTS: &str = "pg_extension/sql";
/// Pages that are made from the code.
const REFERENCES: &str = "docs/reference";

fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// Every crate of the workspace with the names that it depends on, also for tests and builds.
fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let output = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--format-version",
            "1",
            "--no-deps",
            "--offline",
            "--manifest-path",
        ])
        .arg(project().join("Cargo.toml"))
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let name_of = |value: &Value| value["name"].as_str().unwrap().to_owned();
    let packages = metadata["packages"].as_array().unwrap();
    packages
        .iter()
        .map(|package| {
            (
                name_of(package),
                package["dependencies"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(name_of)
                    .collect(),
            )
        })
        .collect()
}

/// The crates that depend on the given one.
fn dependents_of(name: &str) -> Vec<String> {
    dependencies()
        .into_iter()
        .filter(|(_, on)| on.contains(name))
        .map(|(dependent, _)| dependent)
        .collect()
}

/// The project's own files with one of the extensions, relative to its root.
fn files(extensions: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![project().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() && !name.starts_with('.') && name != "target" && name != "node_modules"
            {
                folders.push(path);
            } else if path
                .extension()
                .is_some_and(|extension| extensions.iter().any(|wanted| extension == *wanted))
            {
                found.push(path.strip_prefix(project()).unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}

fn read(file: &Path) -> String {
    std::fs::read_to_string(project().join(file)).unwrap()
}

/// The part of a Rust file above its tests, without comments.
fn code_of(file: &Path) -> String {
    let text = read(file);
    let above_tests = text.split("#[cfg(test)]").next().unwrap();
    above_tests
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect::<Vec<_>>()
        .join("\n")
}

/// The folders of the crates that hold tests only.
fn is_test(file: &Path) -> bool {
    file.starts_with("tests")
        || file.components().any(|part| part.as_os_str() == "tests")
        || file.ends_with("tests.rs")
}

fn may_be_longer(file: &Path) -> bool {
    file.starts_with(SCRIPTS)
        || file.starts_with(REFERENCES)
        || MAY_BE_LONGER.iter().any(|longer| file == Path::new(longer))
}

#[test]
fn no_front_door_imports_another() {
    let dependencies = dependencies();
    for door in FRONT_DOORS {
        let allowed = if door == "tasker-worker" {
            "tasker-worker-runtime"
        } else {
            door
        };
        for other in FRONT_DOORS
            .iter()
            .filter(|other| **other != door && **other != allowed)
        {
            assert!(
                !dependencies[door].contains(*other),
                "{door} depends on {other}"
            );
        }
    }
}

/// The tests and the benchmark look behind the API: at rows, at counters, at PGMQ alone.
#[test]
fn only_the_client_the_tests_and_the_benchmark_know_sqlx() {
    assert_eq!(
        dependents_of("sqlx"),
        ["tasker-bench", "tasker-client", "tasker-tests"]
    );
}

#[test]
fn only_the_extension_knows_pgrx() {
    assert_eq!(dependents_of("pgrx"), ["tasker"]);
}

/// Which of its versions goes with which is decided in one place.
#[test]
fn only_the_crate_of_traces_knows_opentelemetry() {
    for name in [
        "opentelemetry",
        "opentelemetry_sdk",
        "tracing-opentelemetry",
    ] {
        assert_eq!(dependents_of(name), ["tasker-traces"], "{name}");
    }
}

#[test]
fn nothing_depends_on_the_extension() {
    assert_eq!(dependents_of("tasker"), Vec::<String>::new());
}

#[test]
fn the_rules_and_the_extension_are_free_of_io_and_async() {
    let dependencies = dependencies();
    for name in [
        "tokio",
        "sqlx",
        "pgrx",
        "reqwest",
        "axum",
        "tracing",
        "rustix",
        "chrono",
        "tasker-client",
    ] {
        assert!(
            !dependencies["tasker-rules"].contains(name),
            "the rules depend on {name}"
        );
    }
    for name in ["tokio", "sqlx", "rustix", "tasker-client"] {
        assert!(
            !dependencies["tasker"].contains(name),
            "the extension depends on {name}"
        );
    }
}

#[test]
fn the_rules_read_no_clock_no_file_and_no_environment() {
    let words = [
        "std::fs",
        "std::env",
        "std::net",
        "std::process",
        "std::thread",
        "SystemTime",
        "Instant::now",
    ];
    for file in files(&["rs"])
        .into_iter()
        .filter(|file| file.starts_with("rules/src"))
    {
        let code = code_of(&file);
        for word in words {
            assert!(!code.contains(word), "{} uses {word}", file.display());
        }
    }
}

#[test]
fn nothing_but_the_client_the_extension_the_tests_and_the_benchmark_holds_sql() {
    let starts = [
        "select ",
        "insert into ",
        "update ",
        "delete from ",
        "create ",
        "alter ",
        "call ",
        "with ",
    ];
    let marks = [
        " from ",
        " into ",
        " set ",
        "tasker.",
        "pgmq.",
        " table ",
        " extension ",
        " database ",
        " schema ",
    ];
    let holds = |line: &str| {
        let strings = line.split('"').skip(1).step_by(2).map(str::to_lowercase);
        strings.into_iter().any(|text| {
            let text = text.trim_start().to_owned();
            starts.iter().any(|start| text.starts_with(start))
                && marks.iter().any(|mark| text.contains(mark))
                && !text.starts_with("create a")
        })
    };
    for file in files(&["rs"]) {
        // An example is an application, which has tables of its own.
        let is_home = [
            "client",
            "pg_extension",
            "tests",
            "rules",
            "bench",
            "examples",
        ]
        .iter()
        .any(|home| file.starts_with(home));
        if is_home || is_test(&file) {
            continue;
        }
        for (number, line) in code_of(&file).lines().enumerate() {
            assert!(
                !holds(line),
                "{} holds SQL near line {}: {}",
                file.display(),
                number + 1,
                line.trim()
            );
        }
    }
}

#[test]
fn no_file_is_longer_than_600_lines() {
    let too_long: Vec<_> = files(&["rs", "sql", "toml", "md", "yaml", "sh"])
        .into_iter()
        .filter(|file| !may_be_longer(file))
        .map(|file| (read(&file).lines().count(), file))
        .filter(|(lines, _)| *lines > LINES_MAX)
        .collect();
    assert!(too_long.is_empty(), "too long: {too_long:?}");
}

#[test]
fn no_unwrap_and_no_expect_outside_tests() {
    for file in files(&["rs"]).into_iter().filter(|file| !is_test(file)) {
        for (number, line) in code_of(&file).lines().enumerate() {
            let bare = line.contains(".unwrap()") || line.contains(".expect(");
            assert!(
                !bare,
                "{} near line {}: {}",
                file.display(),
                number + 1,
                line.trim()
            );
        }
    }
}

#[test]
fn no_unfinished_marks_are_left() {
    let marks = [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("XX", "X:"),
        concat!("unimpl", "emented!"),
        concat!("to", "do!"),
    ];
    for file in files(&["rs", "sql", "toml", "md", "yaml"]) {
        if may_be_longer(&file) || file.ends_with("clippy.toml") {
            continue;
        }
        for (number, line) in read(&file).lines().enumerate() {
            // The lint's own name in the workspace's manifest is no mark.
            let mark = marks.iter().find(|mark| line.contains(**mark));
            assert!(
                mark.is_none(),
                "{}:{}: {}",
                file.display(),
                number + 1,
                line.trim()
            );
        }
    }
}

#[test]
fn the_library_of_the_extension_is_a_table_of_contents() {
    let lines = read(Path::new("pg_extension/src/lib.rs")).lines().count();
    assert!(lines < 100, "pg_extension/src/lib.rs has {lines} lines");
}
