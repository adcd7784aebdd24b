//! What each type of step needs, and which fields it has.

use serde_json::{Value, json};
use tasker_rules::finding::FindingCode;

use super::{errors, message_of};

/// A template of a step `first` and the steps given, each with what a step needs filled in.
fn with_steps(steps: &[Value]) -> Value {
    let first = json!({ "name": "first" });
    let steps: Vec<Value> = std::iter::once(&first)
        .chain(steps)
        .map(|step| {
            let mut whole = json!({ "handler": { "callable": "x" }, "result_schema": {} });
            let fields = whole.as_object_mut().unwrap();
            fields.extend(step.as_object().unwrap().clone());
            whole
        })
        .collect();
    json!({ "name": "t", "version": "1", "steps": steps })
}

fn step(name: &str, step_type: &str, dependencies: &[&str]) -> Value {
    json!({ "name": name, "type": step_type, "dependencies": dependencies })
}

/// A step with more fields.
fn with(mut step: Value, fields: &Value) -> Value {
    step.as_object_mut()
        .unwrap()
        .extend(fields.as_object().unwrap().clone());
    step
}

fn batchable() -> Value {
    step("cut", "batchable", &["first"])
}

fn worker() -> Value {
    step("work", "batch_worker", &["cut"])
}

fn map(over: &str) -> Value {
    with(step("m", "map", &["first"]), &json!({ "over": over }))
}

#[test]
fn each_type_is_accepted_with_what_it_needs() {
    let strategy = json!({ "failure_strategy": "isolate" });
    for steps in [
        vec![
            step("d", "decision", &["first"]),
            step("b", "standard", &["d"]),
        ],
        vec![step("j", "deferred_convergence", &["first"])],
        vec![json!({ "name": "j", "type": "deferred_convergence", "depends_on": ["first"] })],
        vec![batchable(), worker()],
        vec![batchable(), with(worker(), &strategy)],
        vec![
            with(
                batchable(),
                &json!({ "batch_config": { "worker_template": "work", "parallelism": 2, "batch_size": 5, "cursor_field": "id", "failure_strategy": "isolate" } }),
            ),
            with(worker(), &strategy),
        ],
        vec![map("first"), step("after", "standard", &["m"])],
        vec![with(
            map("first.a.b"),
            &json!({ "max_parallel": 3, "failure_strategy": "fail_fast" }),
        )],
        vec![json!({ "name": "m", "type": "map", "over": "first.a", "depends_on": ["first"] })],
    ] {
        assert_eq!(
            errors(with_steps(&steps)),
            Vec::<String>::new(),
            "{steps:?}"
        );
    }
}

#[test]
fn what_a_type_lacks_is_told_with_its_code_and_path() {
    for (steps, expected) in [
        (
            vec![step("d", "decision", &["first"])],
            vec!["UNREACHABLE_BRANCH steps[1]"],
        ),
        (
            vec![step("j", "deferred_convergence", &[])],
            vec!["MISSING_DEPENDENCY steps[1].dependencies"],
        ),
        (vec![batchable()], vec!["BATCH_WORKER_MISSING steps[1]"]),
        (
            vec![step("work", "batch_worker", &["first"])],
            vec!["BATCH_WORKER_MISSING steps[1].dependencies"],
        ),
        (
            vec![
                with(
                    batchable(),
                    &json!({ "batch_config": { "worker_template": "wrk" } }),
                ),
                worker(),
            ],
            vec![
                "BATCH_WORKER_MISSING steps[1].batch_config.worker_template",
                "BATCH_WORKER_MISSING steps[2].dependencies",
            ],
        ),
        (
            vec![
                batchable(),
                worker(),
                step("other", "batch_worker", &["cut"]),
            ],
            vec!["BATCH_WORKER_MISSING steps[1].batch_config"],
        ),
        (
            vec![
                batchable(),
                step("cut2", "batchable", &["first"]),
                step("work", "batch_worker", &["cut", "cut2"]),
            ],
            vec!["BATCH_WORKER_MISSING steps[3].dependencies"],
        ),
        (
            vec![
                with(
                    batchable(),
                    &json!({ "batch_config": { "failure_strategy": "isolate" } }),
                ),
                with(worker(), &json!({ "failure_strategy": "fail_fast" })),
            ],
            vec!["SCHEMA_INVALID steps[2].failure_strategy"],
        ),
        (
            vec![step("m", "map", &["first"])],
            vec!["MAP_SOURCE_INVALID steps[1].over"],
        ),
        (
            vec![map("first..b")],
            vec!["MAP_SOURCE_INVALID steps[1].over"],
        ),
        (
            vec![map("second.a")],
            vec!["MAP_SOURCE_INVALID steps[1].over"],
        ),
        (vec![map("")], vec!["MAP_SOURCE_INVALID steps[1].over"]),
    ] {
        assert_eq!(errors(with_steps(&steps)), expected, "{steps:?}");
    }
}

#[test]
fn a_field_of_other_types_is_refused() {
    for (fields, path) in [
        (json!({ "batch_config": {} }), "batch_config"),
        (json!({ "over": "first" }), "over"),
        (json!({ "max_parallel": 2 }), "max_parallel"),
        (json!({ "failure_strategy": "isolate" }), "failure_strategy"),
        (json!({ "signal": { "name": "go" } }), "signal"),
        (json!({ "delay_seconds": 2 }), "delay_seconds"),
        (json!({ "until": "first.at" }), "until"),
    ] {
        let standard = with(step("s", "standard", &["first"]), &fields);
        assert_eq!(
            errors(with_steps(&[standard])),
            [format!("UNKNOWN_FIELD steps[1].{path}")]
        );
    }
    let narrowed = with(worker(), &json!({ "max_parallel": 2 }));
    assert_eq!(
        errors(with_steps(&[batchable(), narrowed])),
        ["UNKNOWN_FIELD steps[2].max_parallel"]
    );
}

#[test]
fn a_name_that_is_nearly_right_is_told() {
    assert!(
        message_of(with_steps(&[map("frist.a")]), FindingCode::MapSourceInvalid)
            .ends_with("did you mean \"first\"?")
    );
    let named = with(
        batchable(),
        &json!({ "batch_config": { "worker_template": "wrok" } }),
    );
    assert!(
        message_of(
            with_steps(&[named, worker()]),
            FindingCode::BatchWorkerMissing
        )
        .ends_with("did you mean \"work\"?")
    );
}
