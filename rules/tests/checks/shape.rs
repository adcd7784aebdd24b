//! The shape of the document: fields, names, numbers, aliases.

use serde_json::json;
use tasker_rules::finding::{Finding, FindingCode};
use tasker_rules::template::{Backoff, json_schema};

use super::{checked, errors, message_of, with_graph, with_step};

#[test]
fn a_whole_template_without_faults_has_no_findings_and_the_defaults_of_the_design() {
    let checked = checked(with_step(&json!({})));
    assert_eq!(checked.findings, []);
    let template = checked.template.unwrap();
    assert_eq!(template.namespace_name, "default");
    let step = &template.steps[0];
    assert_eq!(
        (step.retry.max_attempts, step.retry.backoff),
        (3, Backoff::Exponential)
    );
    assert_eq!(step.handler.as_ref().unwrap().method, "call");
    assert_eq!(template.identity.strategy.as_str(), "always_unique");
    assert_eq!(template.lifecycle.staleness_action.as_str(), "dlq");
    assert_eq!(template.lifecycle.on_failure.as_str(), "error");
    assert_eq!(template.lifecycle.evaluation.as_str(), "inline");
}

#[test]
fn everything_that_is_wrong_is_found_at_once() {
    let document = json!({
        "name": "Bad Name", "namespace": "9x", "version": "1.0.0", "descriptoin": "x",
        "steps": [
            { "name": "a", "handler": { "callable": " " }, "dependencies": ["b", "zz"], "retry": { "max_attempts": 0 } },
            { "name": "b", "dependencies": ["a"], "result_schema": { "type": "nonsense" } },
            { "name": "a", "type": "timer", "handler": { "callable": "sql:f.g" } },
        ],
    });
    assert_eq!(
        errors(document),
        [
            "CYCLE_DETECTED steps[0].dependencies",
            "DUPLICATE_STEP_NAME steps[2].name",
            "EMPTY_CALLABLE steps[0].handler.callable",
            "EMPTY_CALLABLE steps[1].handler",
            "MISSING_DEPENDENCY steps[0].dependencies[1]",
            "NAME_INVALID name",
            "NAME_INVALID namespace",
            "SCHEMA_INVALID steps[0].retry.max_attempts",
            "SCHEMA_INVALID steps[1].result_schema.type",
            "SCHEMA_INVALID steps[2].delay_seconds",
            "UNKNOWN_FIELD descriptoin",
            "UNKNOWN_FIELD steps[2].handler",
            "UNSUPPORTED_TYPE steps[2].handler.callable",
        ]
    );
}

#[test]
fn an_unknown_field_is_told_with_the_nearest_known_name() {
    let message = |document| message_of(document, FindingCode::UnknownField);
    assert!(
        message(with_step(&json!({ "timeout_second": 1 })))
            .ends_with("did you mean \"timeout_seconds\"?")
    );
    assert!(
        message(with_step(&json!({ "retry": { "max_atempts": 1 } })))
            .ends_with("did you mean \"max_attempts\"?")
    );
    assert_eq!(
        message(with_step(&json!({ "colour": "red" }))),
        "there is no field \"colour\" here"
    );
    assert_eq!(
        errors(with_step(&json!({ "retry": { "x.y": 1 } }))),
        ["UNKNOWN_FIELD steps[0].retry[\"x.y\"]"]
    );
}

#[test]
fn names_and_versions_keep_to_their_form_and_length() {
    let named = |name: &str, namespace: &str, version: &str| json!({ "name": name, "namespace_name": namespace, "version": version, "steps": [] });
    assert!(errors(named("a_1", "n", "1.0.0-rc.1+b")).is_empty());
    assert!(errors(named(&"a".repeat(64), &"n".repeat(29), &"1".repeat(16))).is_empty());
    for (name, namespace, version, path) in [
        ("", "n", "1", "name"),
        ("A", "n", "1", "name"),
        ("a-b", "n", "1", "name"),
        (&"a".repeat(65), "n", "1", "name"),
        ("a", "", "1", "namespace_name"),
        ("a", "_n", "1", "namespace_name"),
        ("a", &"n".repeat(30), "1", "namespace_name"),
        ("a", "n", "", "version"),
        ("a", "n", "1 0", "version"),
        ("a", "n", &"1".repeat(17), "version"),
        ("a\n", "n", "1", "name"),
    ] {
        assert_eq!(
            errors(named(name, namespace, version)),
            [format!("NAME_INVALID {path}")],
            "{name} {version}"
        );
    }
    for name in ["", "a b", "-a", "ALL", "ä", &"a".repeat(65)] {
        assert_eq!(
            errors(with_step(&json!({ "name": name }))),
            ["NAME_INVALID steps[0].name"],
            "{name}"
        );
    }
    assert!(
        message_of(
            json!({ "name": "t", "version": 1.0, "steps": [] }),
            FindingCode::SchemaInvalid
        )
        .contains("quotes")
    );
}

#[test]
fn absurd_numbers_are_refused() {
    for (field, value) in [
        ("max_attempts", json!(0)),
        ("max_attempts", json!(-1)),
        ("max_attempts", json!(1.5)),
        ("max_attempts", json!(2_147_483_648_u64)),
        ("max_attempts", serde_json::from_str("1e400").unwrap()),
        (
            "max_attempts",
            serde_json::from_str("123456789012345678901234567890").unwrap(),
        ),
        ("backoff_base_ms", json!(-5)),
        ("max_backoff_ms", json!("10")),
        ("jitter", json!(1.01)),
        ("jitter", json!(-0.1)),
    ] {
        let path = format!("SCHEMA_INVALID steps[0].retry.{field}");
        assert_eq!(
            errors(with_step(&json!({ "retry": { field: value } }))),
            [path],
            "{value}"
        );
    }
    assert_eq!(
        errors(with_step(&json!({ "timeout_seconds": 0 }))),
        ["SCHEMA_INVALID steps[0].timeout_seconds"]
    );
    assert!(
        errors(with_step(
            &json!({ "retry": { "max_attempts": 1, "jitter": 0, "backoff_base_ms": 0 } })
        ))
        .is_empty()
    );
}

#[test]
fn an_integer_may_be_written_with_a_point() {
    let checked = checked(with_step(
        &json!({ "retry": { "max_attempts": 4.0 }, "timeout_seconds": 1e1 }),
    ));
    let step = checked.template.unwrap().steps.remove(0);
    assert_eq!(
        (step.retry.max_attempts, step.timeout_seconds),
        (4, Some(10))
    );
}

#[test]
fn aliases_stand_for_their_names_and_exclude_them() {
    let mut document = with_graph(&[("a", &[]), ("b", &["a"])]);
    let step = document["steps"][1].as_object_mut().unwrap();
    let dependencies = step.remove("dependencies").unwrap();
    step.insert("depends_on".to_owned(), dependencies);
    document["namespace"] = json!("shop");
    let checked = checked(document.clone());
    assert_eq!(checked.findings, []);
    let template = checked.template.unwrap();
    assert_eq!(
        (
            template.namespace_name.as_str(),
            template.steps[1].dependencies[0].as_str()
        ),
        ("shop", "a")
    );
    assert_eq!(checked.document.unwrap()["namespace_name"], "shop");

    document["namespace_name"] = json!("shop");
    document["steps"][1]["dependencies"] = json!([]);
    assert_eq!(
        errors(document),
        [
            "SCHEMA_INVALID namespace",
            "SCHEMA_INVALID steps[1].depends_on"
        ]
    );
}

#[test]
fn a_step_that_a_worker_runs_needs_a_handler() {
    let mut document = with_step(&json!({}));
    document["steps"][0]
        .as_object_mut()
        .unwrap()
        .remove("handler");
    assert_eq!(errors(document), ["EMPTY_CALLABLE steps[0].handler"]);
    assert_eq!(
        errors(with_step(&json!({ "handler": {} }))),
        ["EMPTY_CALLABLE steps[0].handler.callable"]
    );
    assert_eq!(
        errors(with_step(&json!({ "handler": { "callable": "" } }))),
        ["EMPTY_CALLABLE steps[0].handler.callable"]
    );
    assert_eq!(
        errors(with_step(&json!({ "handler": "x" }))),
        ["SCHEMA_INVALID steps[0].handler"]
    );
}

#[test]
fn documents_of_any_shape_are_findings_and_never_a_panic() {
    for document in [
        json!(null),
        json!(5),
        json!("x"),
        json!([]),
        json!({ "steps": 5 }),
        json!({ "steps": [null, 1, "x", [], {}] }),
        json!({ "name": {}, "version": [], "steps": [{ "name": 1, "dependencies": "a", "type": {}, "handler": [] }] }),
        json!({ "environments": [], "domain_events": {}, "input_schema": [], "steps": [{ "dependencies": [1, null, {}] }] }),
        json!({ "environments": { "": { "steps": [1, { "name": 5 }] } }, "steps": {} }),
    ] {
        let checked = checked(document);
        assert!(checked.template.is_none());
        assert!(checked.findings.iter().any(Finding::is_error));
    }
}

#[test]
fn findings_are_written_and_read_as_json() {
    let finding = Finding::new(FindingCode::CycleDetected, "steps[0]", "a ring");
    let text = serde_json::to_value(&finding).unwrap();
    let expected = json!({ "severity": "error", "code": "CYCLE_DETECTED", "path": "steps[0]", "message": "a ring" });
    assert_eq!(text, expected);
    assert_eq!(serde_json::from_value::<Finding>(text).unwrap(), finding);
}

#[test]
fn the_published_schema_describes_every_field_and_knows_the_aliases() {
    let schema = json_schema();
    for field in [
        "name",
        "namespace_name",
        "namespace",
        "version",
        "input_schema",
        "environments",
        "steps",
    ] {
        assert!(
            schema["properties"][field]["description"].is_string(),
            "{field}"
        );
    }
    for field in [
        "depends_on",
        "dependencies",
        "over",
        "signal",
        "delay_seconds",
        "batch_config",
        "compensate",
    ] {
        assert!(
            schema["$defs"]["StepTemplate"]["properties"][field]["description"].is_string(),
            "{field}"
        );
    }
    assert!(tasker_rules::schema::Schema::compile(&schema).is_ok());
    assert!(!schema.to_string().contains("\"default\":null"));
}
