//! The templates that ship as examples are real input.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;

use tasker_rules::finding::Finding;
use tasker_rules::graph;
use tasker_rules::template::{Limits, Source, canonical, check};

fn examples() -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/templates");
    let mut examples: Vec<(String, String)> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "yaml")
        })
        .map(|path| {
            (
                path.file_stem().unwrap().to_str().unwrap().to_owned(),
                std::fs::read_to_string(&path).unwrap(),
            )
        })
        .collect();
    examples.sort();
    assert!(examples.len() >= 14);
    examples
}

#[test]
fn examples_check_clean_and_compile() {
    for (name, text) in examples() {
        let checked = check(Source::Yaml(&text), None, &Limits::default());
        assert!(
            !checked.findings.iter().any(Finding::is_error),
            "{name}: {:?}",
            checked.findings
        );
        let template = checked.template.unwrap();
        let compiled = graph::compile(&template).unwrap();
        assert_eq!(compiled.name, name);
        assert_eq!(compiled.steps.len(), template.steps.len());
    }
}

#[test]
fn an_example_given_as_json_is_the_same_template() {
    for (name, text) in examples() {
        let from_yaml = check(Source::Yaml(&text), None, &Limits::default());
        let document = from_yaml.document.unwrap();
        let from_json = check(Source::Json(document.clone()), None, &Limits::default());
        assert_eq!(from_json.template, from_yaml.template, "{name}");
        assert_eq!(from_json.findings, from_yaml.findings, "{name}");
        // JSON text is YAML, too.
        let json_text = serde_json::to_string_pretty(&document).unwrap();
        let from_text = check(Source::Yaml(&json_text), None, &Limits::default());
        assert_eq!(
            canonical(&from_text.document.unwrap()),
            canonical(&document),
            "{name}"
        );
    }
}

#[test]
fn the_largest_examples_have_the_graph_they_describe() {
    let (_, text) = examples()
        .into_iter()
        .find(|(name, _)| name == "order_fulfillment")
        .unwrap();
    let template = check(Source::Yaml(&text), None, &Limits::default())
        .template
        .unwrap();
    let compiled = graph::compile(&template).unwrap();
    let ship = compiled.step(4).unwrap();
    assert_eq!(
        (ship.name.as_str(), ship.dependencies.as_slice()),
        ("ship_order", &[1, 2, 3][..])
    );
    assert_eq!(
        (ship.dependents.as_slice(), ship.initial_dependencies),
        (&[5][..], 3)
    );
    assert_eq!(ship.handler["method"], "call");
    assert_eq!(
        compiled
            .first_steps()
            .map(|step| step.number)
            .collect::<Vec<_>>(),
        [1]
    );
    assert!(compiled.step(0).is_none() && compiled.step(6).is_none());
    let stored = serde_json::to_value(&compiled).unwrap();
    assert_eq!(
        serde_json::from_value::<graph::CompiledTemplate>(stored).unwrap(),
        compiled
    );
}
