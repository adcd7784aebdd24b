//! What is written for each language.

use std::path::{Path, PathBuf};

use super::plan::{Plan, PlannedStep, Role};
use super::texts::{Sections, filled};
use crate::languages::{Case, Language, identifier};

macro_rules! scaffold {
    ($file:literal) => {
        include_str!(concat!("../../scaffolds/", $file))
    };
}

/// A file, by its path in the folder.
#[derive(Debug)]
pub(super) struct NewFile {
    pub(super) path: PathBuf,
    pub(super) text: String,
}

/// Where the handlers and their tests are in a language, and the lines between what they consist of.
struct Places {
    handlers: &'static str,
    tests: &'static str,
    readme: &'static str,
    handler_texts: Sections,
    test_texts: Sections,
    /// Between the head, the handlers and the foot.
    around_handlers: [&'static str; 3],
    around_tests: [&'static str; 3],
}

const RUST: Places = Places {
    handlers: "src/handlers.rs",
    tests: "src/handlers/tests.rs",
    readme: scaffold!("rust/README.in"),
    handler_texts: Sections(scaffold!("rust/handlers.in")),
    test_texts: Sections(scaffold!("rust/tests.in")),
    around_handlers: ["\n\n", "\n\n", "\n\n"],
    around_tests: ["\n\n", "\n\n", "\n"],
};
const PYTHON: Places = Places {
    handlers: "handlers.py",
    tests: "test_handlers.py",
    readme: scaffold!("python/README.in"),
    handler_texts: Sections(scaffold!("python/handlers.in")),
    test_texts: Sections(scaffold!("python/tests.in")),
    around_handlers: ["\n\n\n", "\n\n\n", "\n\n\n"],
    around_tests: ["\n", "\n\n", "\n\n\n"],
};
const TYPESCRIPT: Places = Places {
    handlers: "src/handlers.ts",
    tests: "src/handlers.test.ts",
    readme: scaffold!("typescript/README.in"),
    handler_texts: Sections(scaffold!("typescript/handlers.in")),
    test_texts: Sections(scaffold!("typescript/tests.in")),
    around_handlers: ["\n\n", "\n\n", "\n\n"],
    around_tests: ["\n\n", "\n\n", "\n"],
};
const RUBY: Places = Places {
    handlers: "handlers.rb",
    tests: "test_handlers.rb",
    readme: scaffold!("ruby/README.in"),
    handler_texts: Sections(scaffold!("ruby/handlers.in")),
    test_texts: Sections(scaffold!("ruby/tests.in")),
    around_handlers: ["\n", "\n\n", "\n"],
    around_tests: ["\n", "\n\n", "\n"],
};

/// All files of the folder; `source` is where the source of Tasker lies.
pub(super) fn of(plan: &Plan, template: String, source: &Path) -> Vec<NewFile> {
    let places = match plan.language {
        Language::Rust => &RUST,
        Language::Python => &PYTHON,
        Language::TypeScript => &TYPESCRIPT,
        Language::Ruby => &RUBY,
    };
    let mut files = vec![
        file("README.md", readme(plan, places)),
        file(format!("{}.yaml", plan.name), template),
        file(places.handlers, handlers(plan, places)),
        file(
            places.tests,
            assembled(plan, places.test_texts, places.around_tests, &[]),
        ),
    ];
    files.extend(around(plan, source));
    files
}

fn file(path: impl Into<PathBuf>, text: impl Into<String>) -> NewFile {
    NewFile {
        path: path.into(),
        text: text.into(),
    }
}

fn readme(plan: &Plan, places: &Places) -> String {
    let names = [("name", plan.name.as_str()), ("namespace", &plan.namespace)];
    let part = filled(places.readme, &names);
    let text = filled(
        scaffold!("README.in"),
        &[
            ("handlers", places.handlers),
            ("tests", places.tests),
            ("language_part", &part),
        ],
    );
    filled(&text, &names)
}

fn handlers(plan: &Plan, places: &Places) -> String {
    let registration = places.handler_texts.get("registration");
    let registrations: Vec<String> = plan
        .steps
        .iter()
        .map(|step| of_step(registration, step))
        .collect();
    let values = [
        ("registrations", registrations.join("\n")),
        ("uses", rust_uses(plan)),
    ];
    let values = values.each_ref().map(|(key, value)| (*key, value.as_str()));
    assembled(plan, places.handler_texts, places.around_handlers, &values)
}

/// Head, a part for each step, foot.
fn assembled(plan: &Plan, texts: Sections, around: [&str; 3], values: &[(&str, &str)]) -> String {
    let parts: Vec<String> = plan
        .steps
        .iter()
        .map(|step| of_step(texts.get(step.role.section()), step))
        .collect();
    let [after_head, between, before_foot] = around;
    let mut text = texts.get("header").to_owned() + after_head + &parts.join(between);
    let foot = texts.get("footer");
    if !foot.is_empty() {
        text.push_str(before_foot);
        text.push_str(foot);
    }
    text.push('\n');
    filled(&filled(&text, values), &[("name", &plan.name)])
}

fn of_step(text: &str, step: &PlannedStep) -> String {
    let dependencies: Vec<String> = step
        .dependencies
        .iter()
        .map(|name| format!("\"{name}\""))
        .collect();
    filled(
        text,
        &[
            ("function", &step.function),
            // With more words behind it, a name is no longer reserved.
            ("test", step.function.trim_end_matches('_')),
            ("step", &step.name),
            ("callable", &step.callable),
            ("dependencies", &dependencies.join(", ")),
            ("before", &step.dependencies.join(" and ")),
        ],
    )
}

/// Only what the handlers use: an import too many would be warned of.
fn rust_uses(plan: &Plan) -> String {
    let mut uses = String::new();
    if plan.has(&[Role::Part, Role::Total]) {
        uses.push_str("use serde::Deserialize;\n");
    }
    uses.push_str("use serde_json::{Value, json};\nuse tasker_worker_runtime::{");
    if plan.has(&[Role::Cut]) {
        uses.push_str("Batch, ");
    }
    if plan.has(&[Role::Choose]) {
        uses.push_str("Decision, ");
    }
    uses + "HandlerError, StepContext, WorkerBuilder};"
}

/// What stands around the handlers.
fn around(plan: &Plan, source: &Path) -> Vec<NewFile> {
    let package = identifier(&plan.name, Case::Snake, "workflow") + "_worker";
    let source = serde_json::Value::from(source.to_string_lossy()).to_string();
    let values = [
        ("package", package.as_str()),
        ("source", source.trim_matches('"')),
        ("name", &plan.name),
        ("namespace", &plan.namespace),
    ];
    let filled_file = |path: &str, text| file(path, filled(text, &values));
    match plan.language {
        Language::Rust => vec![
            filled_file("Cargo.toml", scaffold!("rust/Cargo.toml.in")),
            filled_file("src/main.rs", scaffold!("rust/main.rs.in")),
            file(".gitignore", "/target\n"),
        ],
        Language::Python => vec![file(".gitignore", "__pycache__/\n")],
        Language::TypeScript => vec![
            filled_file("package.json", scaffold!("typescript/package.json.in")),
            filled_file("tsconfig.json", scaffold!("typescript/tsconfig.json.in")),
            file(".gitignore", "node_modules/\ndist/\n"),
        ],
        Language::Ruby => Vec::new(),
    }
}
