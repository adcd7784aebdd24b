//! The example templates of `examples/templates/`.

use anyhow::Context;
use tasker_client::{Client, Definition};
use tasker_rules::finding::Severity;
use tasker_rules::template::{Limits, Source, check};

use crate::folders::project;

/// The text of one of them, by the name of its file.
pub fn text(name: &str) -> anyhow::Result<String> {
    let path = project()?
        .join("examples/templates")
        .join(format!("{name}.yaml"));
    std::fs::read_to_string(&path).with_context(|| format!("can't read {}", path.display()))
}

/// The names of all of them.
pub fn names() -> anyhow::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(project()?.join("examples/templates"))? {
        let path = entry?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "yaml")
        {
            names.push(
                path.file_stem()
                    .unwrap_or_default()
                    .to_string_lossy()
                    .into_owned(),
            );
        }
    }
    names.sort();
    Ok(names)
}

/// Registers those whose step types are built; returns their names.
pub async fn register(client: &Client) -> anyhow::Result<Vec<String>> {
    let mut registered = Vec::new();
    for name in names()? {
        let text = text(&name)?;
        let checked = check(Source::Yaml(&text), None, &Limits::default());
        if checked
            .findings
            .iter()
            .any(|finding| finding.severity == Severity::Error)
        {
            continue;
        }
        client
            .register_template(Definition::Yaml(&text), None)
            .await
            .with_context(|| format!("registering {name}"))?;
        registered.push(name);
    }
    Ok(registered)
}
