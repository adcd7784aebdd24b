//! What a schema can not say: graphs, types, schemas inside, environments, limits.

use serde_json::{Value, json};
use tasker_rules::finding::{FindingCode, Severity};
use tasker_rules::template::{Backoff, Limits, Source, Template, check};

use super::{checked, errors, message_of, with_graph, with_step};

#[test]
fn a_cycle_is_told_with_its_whole_path() {
    let ring = with_graph(&[
        ("start", &[]),
        ("a", &["start", "c"]),
        ("b", &["a"]),
        ("c", &["b"]),
    ]);
    let message = message_of(ring.clone(), FindingCode::CycleDetected);
    assert_eq!(
        message,
        "each of these steps waits for the next: a -> c -> b -> a"
    );
    assert_eq!(errors(ring), ["CYCLE_DETECTED steps[1].dependencies"]);
    let two = with_graph(&[
        ("a", &["b"]),
        ("b", &["a"]),
        ("c", &["d", "a"]),
        ("d", &["c"]),
    ]);
    assert_eq!(
        errors(two),
        [
            "CYCLE_DETECTED steps[0].dependencies",
            "CYCLE_DETECTED steps[2].dependencies"
        ]
    );
}

#[test]
fn a_step_waits_for_others_that_are_there_and_for_each_once() {
    assert_eq!(
        errors(with_graph(&[("a", &["a"])])),
        ["SELF_DEPENDENCY steps[0].dependencies[0]"]
    );
    let missing = with_graph(&[("validate_order", &[]), ("ship", &["validate_ordre"])]);
    assert!(
        message_of(missing, FindingCode::MissingDependency)
            .ends_with("did you mean \"validate_order\"?")
    );
    let twice = with_graph(&[("a", &[]), ("b", &["a", "a"])]);
    assert_eq!(errors(twice), ["SCHEMA_INVALID steps[1].dependencies"]);
}

#[test]
fn what_is_not_built_is_refused_as_such() {
    let undo = with_step(&json!({ "compensate": { "callable": "sql:shop.undo" } }));
    assert_eq!(
        errors(undo),
        ["UNSUPPORTED_TYPE steps[0].compensate.callable"]
    );
    let typo = with_step(&json!({ "type": "standrd" }));
    assert!(message_of(typo, FindingCode::UnsupportedType).ends_with("did you mean \"standard\"?"));
}

#[test]
fn a_step_may_name_what_undoes_it_unless_it_does_nothing_outside() {
    let undo = json!({ "callable": "undo", "retry": { "max_attempts": 2 } });
    assert!(errors(with_step(&json!({ "compensate": undo }))).is_empty());
    let timer = with_wait(&json!({ "type": "timer", "delay_seconds": 1, "compensate": undo }));
    assert_eq!(errors(timer), ["UNKNOWN_FIELD steps[1].compensate"]);
}

/// A template of a standard step `a` and a step `b` behind it.
fn with_wait(step: &Value) -> Value {
    let mut whole = json!({ "name": "b", "dependencies": ["a"] });
    whole
        .as_object_mut()
        .unwrap()
        .extend(step.as_object().unwrap().clone());
    json!({ "name": "t", "version": "1", "steps": [{ "name": "a", "handler": { "callable": "x" } }, whole] })
}

#[test]
fn a_step_that_waits_says_what_for_and_has_nothing_that_a_worker_needs() {
    for step in [
        json!({ "type": "signal", "signal": { "name": "go" } }),
        json!({ "type": "signal", "signal": { "name": "go", "timeout_seconds": 5, "on_timeout": "error", "schema": { "type": "object" } } }),
        json!({ "type": "signal", "signal": { "name": "go", "timeout_seconds": 5, "on_timeout": { "n": 1 } }, "result_schema": { "type": "object" } }),
        json!({ "type": "timer", "delay_seconds": 0 }),
        json!({ "type": "timer", "until": "a" }),
        json!({ "type": "timer", "until": "a.due.at" }),
        json!({ "type": "task", "task": { "template": "other" } }),
        json!({ "type": "task", "task": { "template": "other", "namespace": "shop", "version": "1.0.0", "context": "a.order" } }),
        json!({ "type": "task", "task": { "template": "other", "context": { "id": 7 } } }),
    ] {
        assert_eq!(errors(with_wait(&step)), [""; 0], "{step}");
    }
    for (step, finding) in [
        (
            json!({ "type": "signal" }),
            "SCHEMA_INVALID steps[1].signal",
        ),
        (
            json!({ "type": "signal", "signal": { "name": "go", "on_timeout": 1 } }),
            "SCHEMA_INVALID steps[1].signal.on_timeout",
        ),
        (
            json!({ "type": "signal", "signal": { "name": "go", "timeout_seconds": 1, "on_timeout": 1 }, "result_schema": { "type": "object" } }),
            "SCHEMA_INVALID steps[1].signal.on_timeout",
        ),
        (
            json!({ "type": "signal", "signal": { "name": "go", "schema": { "type": "nonsense" } } }),
            "SCHEMA_INVALID steps[1].signal.schema.type",
        ),
        (
            json!({ "type": "signal", "signal": { "name": "go away" } }),
            "NAME_INVALID steps[1].signal.name",
        ),
        (
            json!({ "type": "signal", "signal": { "name": "go" }, "handler": { "callable": "x" } }),
            "UNKNOWN_FIELD steps[1].handler",
        ),
        (
            json!({ "type": "timer" }),
            "SCHEMA_INVALID steps[1].delay_seconds",
        ),
        (
            json!({ "type": "timer", "delay_seconds": 1, "until": "a" }),
            "SCHEMA_INVALID steps[1].until",
        ),
        (
            json!({ "type": "timer", "until": "c.at" }),
            "MISSING_DEPENDENCY steps[1].until",
        ),
        (
            json!({ "type": "timer", "until": "a..at" }),
            "SCHEMA_INVALID steps[1].until",
        ),
        (
            json!({ "type": "timer", "delay_seconds": 1, "retry": {} }),
            "UNKNOWN_FIELD steps[1].retry",
        ),
        (
            json!({ "type": "timer", "delay_seconds": 1, "timeout_seconds": 1 }),
            "UNKNOWN_FIELD steps[1].timeout_seconds",
        ),
        (json!({ "type": "task" }), "SCHEMA_INVALID steps[1].task"),
        (
            json!({ "type": "task", "task": { "template": "other", "context": 7 } }),
            "SCHEMA_INVALID steps[1].task.context",
        ),
        (
            json!({ "type": "task", "task": { "template": "other", "context": "c.order" } }),
            "MISSING_DEPENDENCY steps[1].task.context",
        ),
        (
            json!({ "type": "task", "task": { "template": "Other" } }),
            "NAME_INVALID steps[1].task.template",
        ),
        (
            json!({ "type": "timer", "delay_seconds": 1, "task": { "template": "other" } }),
            "UNKNOWN_FIELD steps[1].task",
        ),
    ] {
        assert_eq!(errors(with_wait(&step)), [finding], "{step}");
    }
}

#[test]
fn a_sql_function_is_named_by_schema_and_name() {
    let with = |callable: &str| with_step(&json!({ "handler": { "callable": callable } }));
    for callable in ["sql:shop.price", "sql:_a.B$1", "sqlite", "shop.sql:price"] {
        assert!(errors(with(callable)).is_empty(), "{callable}");
    }
    let long = format!("sql:{}.f", "s".repeat(64));
    for callable in [
        "sql:",
        "sql:price",
        "sql:.price",
        "sql:shop.",
        "sql:a.b.c",
        "sql:a.b(jsonb)",
        "sql:1a.b",
        "sql:a. b",
        " sql:a.b",
        "sql:\"a\".b",
        "sql:é.b",
        &long,
    ] {
        assert_eq!(
            errors(with(callable)),
            ["NAME_INVALID steps[0].handler.callable"],
            "{callable}"
        );
    }
}

#[test]
fn a_standard_step_has_no_fields_of_other_types() {
    let step = with_step(&json!({ "over": "a.b", "delay_seconds": 1, "batch_config": {} }));
    let expected = ["batch_config", "delay_seconds", "over"]
        .map(|field| format!("UNKNOWN_FIELD steps[0].{field}"));
    assert_eq!(errors(step), expected);
}

#[test]
fn events_are_declared_and_published_once_each() {
    let event = |name: &str| json!({ "name": name });
    let mut document = with_step(&json!({ "publishes_events": [event("order.shiped")] }));
    assert!(errors(document.clone()).is_empty());
    document["domain_events"] = json!([event("order.shipped"), event("order.lost")]);
    assert_eq!(
        errors(document.clone()),
        ["NAME_INVALID steps[0].publishes_events[0].name"]
    );
    assert_eq!(
        message_of(document.clone(), FindingCode::NameInvalid),
        "the event \"order.shiped\" is not among the template's domain_events; did you mean \"order.shipped\"?"
    );
    document["steps"][0]["publishes_events"] = json!([
        event("order.shipped"),
        { "name": "order.shipped", "condition": "failure" },
        { "name": "order.shipped", "delivery_mode": "fast" },
    ]);
    assert!(errors(document.clone()).is_empty());
    document["steps"][0]["publishes_events"][2] =
        json!({ "name": "order.shipped", "condition": "success" });
    document["domain_events"][1] = event("order.shipped");
    assert_eq!(
        errors(document),
        [
            "NAME_INVALID domain_events[1].name",
            "NAME_INVALID steps[0].publishes_events[2].name",
        ]
    );
}

#[test]
fn schemas_in_a_template_are_json_schemas_that_fetch_nothing() {
    let mut document = with_step(&json!({
        "result_schema": { "$ref": "https://example.com/schema.json" },
        "publishes_events": [{ "name": "a.b", "schema": { "type": 5 } }],
    }));
    document["input_schema"] = json!({ "properties": { "n": { "pattern": "(" } } });
    document["domain_events"] = json!([{ "name": "a.b", "schema": { "$ref": "#/$defs/nowhere" } }]);
    assert_eq!(
        errors(document),
        [
            "SCHEMA_INVALID domain_events[0].schema",
            "SCHEMA_INVALID input_schema.properties.n.pattern",
            "SCHEMA_INVALID steps[0].publishes_events[0].schema.type",
            "SCHEMA_INVALID steps[0].result_schema",
        ]
    );
    let own = with_step(
        &json!({ "result_schema": { "$defs": { "n": { "type": "integer" } }, "$ref": "#/$defs/n" } }),
    );
    assert!(errors(own).is_empty());
    assert_eq!(
        errors(with_step(&json!({ "result_schema": 5 }))),
        ["SCHEMA_INVALID steps[0].result_schema"]
    );
}

#[test]
fn warnings_do_not_refuse_a_template() {
    let mut document = with_graph(&[("a", &[]), ("b", &["a"]), ("alone", &[])]);
    document["steps"][0]
        .as_object_mut()
        .unwrap()
        .remove("result_schema");
    let checked = checked(document);
    let found: Vec<_> = checked
        .findings
        .iter()
        .map(|f| (f.severity, f.code, f.path.as_str()))
        .collect();
    assert_eq!(
        found,
        [
            (Severity::Warning, FindingCode::NoResultSchema, "steps[0]"),
            (Severity::Warning, FindingCode::OrphanStep, "steps[2]"),
        ]
    );
    assert!(checked.template.is_some());
}

#[test]
fn an_environment_changes_all_steps_and_then_the_named_ones() {
    let mut document = with_graph(&[("a", &[]), ("b", &["a"])]);
    document["steps"][0]["handler"]["initialization"] = json!({ "kept": 1, "url": "test" });
    document["environments"] = json!({ "production": { "steps": [
        { "name": "b", "retry": { "max_attempts": 9 }, "timeout_seconds": 7 },
        { "name": "ALL", "retry": { "max_attempts": 5, "backoff": "linear" } },
        { "name": "a", "handler": { "callable": "y", "initialization": { "url": "live" } } },
    ] } });
    let for_environment = |name| check(Source::Json(document.clone()), name, &Limits::default());
    let production = for_environment(Some("production"));
    assert_eq!(production.findings, []);
    let Template { steps, .. } = production.template.unwrap();
    assert_eq!(
        (steps[0].retry.max_attempts, steps[1].retry.max_attempts),
        (5, 9)
    );
    assert_eq!(
        (steps[0].retry.backoff, steps[1].retry.backoff),
        (Backoff::Linear, Backoff::Linear)
    );
    assert_eq!(
        (steps[0].timeout_seconds, steps[1].timeout_seconds),
        (None, Some(7))
    );
    let handler = steps[0].handler.as_ref().unwrap();
    assert_eq!(
        (handler.callable.as_str(), handler.method.as_str()),
        ("y", "call")
    );
    assert_eq!(
        Value::Object(handler.initialization.clone()),
        json!({ "kept": 1, "url": "live" })
    );
    // The document stays as written.
    assert_eq!(
        production.document.unwrap()["steps"][0]["handler"]["callable"],
        "x"
    );
    for name in [None, Some("staging")] {
        assert_eq!(
            for_environment(name).template.unwrap().steps[1]
                .retry
                .max_attempts,
            3
        );
    }
}

#[test]
fn an_environment_changes_steps_that_are_there_and_each_once() {
    let mut document = with_step(&json!({}));
    document["environments"] = json!({ "live": { "steps": [
        { "name": "b" }, { "name": "a" }, { "name": "a" }, { "name": "ALL", "handler": { "callable": "sql:f" } },
    ] } });
    assert_eq!(
        errors(document),
        [
            "DUPLICATE_STEP_NAME environments.live.steps[2].name",
            "NAME_INVALID environments.live.steps[0].name",
            "NAME_INVALID environments.live.steps[3].handler.callable",
        ]
    );
}

#[test]
fn the_limit_on_steps_is_a_finding_of_its_own() {
    let limits = Limits { max_steps: 2 };
    let document = with_graph(&[("a", &[]), ("b", &["a"]), ("c", &["b"])]);
    let checked = check(Source::Json(document.clone()), None, &limits);
    assert_eq!(checked.findings.len(), 1);
    assert_eq!(
        (checked.findings[0].code, checked.findings[0].path.as_str()),
        (FindingCode::LimitExceeded, "steps")
    );
    assert!(checked.template.is_none());
    assert!(
        check(Source::Json(document), None, &Limits { max_steps: 3 })
            .template
            .is_some()
    );
}

#[test]
fn text_with_nul_is_found_where_it_is() {
    let mut document = with_step(
        &json!({ "handler": { "callable": "x", "initialization": { "a": ["b", "c\0"], "\0": 1 } } }),
    );
    document["description"] = json!("x\0y");
    assert_eq!(
        errors(document.clone()),
        [
            "SCHEMA_INVALID description",
            "SCHEMA_INVALID steps[0].handler.initialization.a[1]",
            "SCHEMA_INVALID steps[0].handler.initialization[\"\\0\"]",
        ]
    );
    let findings = checked(document).findings;
    assert!(
        findings
            .iter()
            .all(|finding| !finding.path.contains('\0') && !finding.message.contains('\0'))
    );
}
