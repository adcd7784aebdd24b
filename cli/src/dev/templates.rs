//! The example templates, carried inside the program.

use anyhow::Context;
use tasker_client::{Client, Definition};
use tasker_rules::finding::Severity;
use tasker_rules::template::{Limits, Source, check};

macro_rules! examples {
    ($($name:literal),* $(,)?) => {
        [$(($name, include_str!(concat!("../../../examples/templates/", $name, ".yaml")))),*]
    };
}

/// All of them, by name; those that use a step type that isn't built yet are left out when they are registered.
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
    for (name, text) in EXAMPLES.into_iter().filter(|(_, text)| can_run(text)) {
        client
            .register_template(Definition::Yaml(text), None)
            .await
            .with_context(|| format!("registering the example template {name}"))?;
        names.push(name);
    }
    println!("templates {}", names.join(", "));
    Ok(())
}

fn can_run(text: &str) -> bool {
    let checked = check(Source::Yaml(text), None, &Limits::default());
    checked
        .findings
        .iter()
        .all(|finding| finding.severity != Severity::Error)
}

#[cfg(test)]
mod tests {
    use super::{EXAMPLES, can_run};

    #[test]
    fn the_first_templates_of_the_tour_can_run() {
        for name in ["linear_workflow", "diamond_workflow", "order_fulfillment"] {
            assert!(
                EXAMPLES
                    .iter()
                    .any(|(example, text)| *example == name && can_run(text)),
                "{name}"
            );
        }
    }
}
