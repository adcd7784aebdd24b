//! A template's graph, drawn.

use tasker_rules::template::Template;

use super::options::VisualizeOptions;
use crate::drawing::{self, Node, Standing, look};
use crate::failure::Failure;
use crate::output::{self, Output};

/// As a flowchart, as a picture, or in the terminal; to programs the steps are told.
pub(super) fn draw(
    template: &Template,
    options: &VisualizeOptions,
    output: Output,
) -> Result<(), Failure> {
    let nodes = nodes_of(template);
    if options.mermaid {
        return output::line(drawing::mermaid(&nodes).trim_end());
    }
    if options.svg {
        let title = format!(
            "{}/{} {}",
            template.namespace_name, template.name, template.version
        );
        return output::line(drawing::svg(&title, &nodes).trim_end());
    }
    output.show(&template.steps, || {
        drawing::rows(&nodes, look::has_colours())
    })
}

fn nodes_of(template: &Template) -> Vec<Node> {
    let steps = template.steps.iter();
    steps
        .map(|step| Node {
            name: step.name.clone(),
            kind: step.step_type.as_str().to_owned(),
            standing: Standing::Planned,
            note: step
                .handler
                .as_ref()
                .map(|handler| handler.callable.clone()),
            dependencies: step.dependencies.clone(),
        })
        .collect()
}
