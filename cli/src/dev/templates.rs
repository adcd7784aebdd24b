//! The example templates, carried inside the program.

use anyhow::Context;
use tasker_client::{Client, Definition};

macro_rules! examples {
    ($($name:literal),* $(,)?) => {
        [$(($name, include_str!(concat!("../../../examples/templates/", $name, ".yaml")))),*]
    };
}

/// All of them, by name.
const EXAMPLES: [(&str, &str); 15] = examples![
    "complex_dag",
    "conditional_approval",
    "csv_batch",
    "data_pipeline",
    "diamond_workflow",
    "failures",
    "fulfil_with_payment",
    "hierarchical_tree",
    "human_approval",
    "linear_workflow",
    "order_fulfillment",
    "payment_refund",
    "reminder",
    "thumbnail_map",
    "user_registration",
];

/// Registers the examples that this version can run. Safe to repeat.
pub(crate) async fn register(client: &Client) -> anyhow::Result<()> {
    let mut names = Vec::new();
    for (name, text) in EXAMPLES {
        client
            .register_template(Definition::Yaml(text), None)
            .await
            .with_context(|| format!("registering the example template {name}"))?;
        names.push(name);
    }
    println!("templates {}", names.join(", "));
    Ok(())
}

#[cfg(test)]
mod tests {
    use tasker_rules::finding::Severity;
    use tasker_rules::template::{Limits, Source, check};

    use super::EXAMPLES;

    #[test]
    fn each_can_be_registered() {
        for (name, text) in EXAMPLES {
            let checked = check(Source::Yaml(text), None, &Limits::default());
            let mut findings = checked.findings.iter();
            assert!(
                findings.all(|finding| finding.severity != Severity::Error),
                "{name}"
            );
        }
    }
}
