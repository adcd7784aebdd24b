//! The example templates of `examples/templates/`.

use anyhow::Context;
use tasker_client::{Client, Definition};

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

/// Registers those whose step types the database's schema and library know; returns their names.
pub async fn register(client: &Client) -> anyhow::Result<Vec<String>> {
    const UNSUPPORTED: &str =
        "select count(*) from tasker.validate_template($1::text) where code = 'UNSUPPORTED_TYPE'";
    let mut registered = Vec::new();
    for name in names()? {
        let text = text(&name)?;
        let unsupported: i64 = sqlx::query_scalar(UNSUPPORTED)
            .bind(&text)
            .fetch_one(client.pool())
            .await?;
        if unsupported > 0 {
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
