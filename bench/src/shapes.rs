//! The graphs that are measured.

use serde_json::{Value, json};

use crate::stage;

/// The namespace of the generated templates that the worker serves.
pub(crate) const SERVED: &str = "bench";
/// The namespace that nobody but the benchmark itself claims from.
pub(crate) const UNSERVED: &str = "bench_unserved";
/// The namespace of tasks that are created and never run.
pub(crate) const CREATED_ONLY: &str = "bench_created";
/// The handlers of the generated templates: the square of 1 is 1, however long the chain.
const HANDLER: &str = "math.square";
const JOIN_HANDLER: &str = "math.multiply_and_square";
/// The name of the template whose map grows.
pub(crate) const MAP: &str = "map";
/// How wide the fan-out is and how long the chain.
pub(crate) const LARGE: usize = 1_000;
/// How many images the map goes over.
const IMAGES: usize = 10_000;
/// How many rows the file of the batch has, and how many of them an instance works on, as its template says.
pub(crate) const CSV_ROWS: usize = 1_000;
const ROWS_A_BATCH: usize = 200;

/// A graph that is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Shape {
    /// One step.
    Noop,
    /// Four steps in a row.
    Linear,
    /// A start, two branches, a join.
    Diamond,
    /// Seven steps with two joins.
    ComplexDag,
    /// Eight steps: a root, two branches, four leaves, a join.
    HierarchicalTree,
    /// A start, a thousand steps beside each other, a join.
    FanOut,
    /// A thousand steps in a row.
    Chain,
    /// A decision for two of three branches, joined by a convergence.
    Conditional,
    /// A list, an instance for each of its ten thousand elements, the step behind them.
    Map,
    /// A file of a thousand rows cut into five batches, each with a checkpoint halfway, added up.
    Batch,
}

impl Shape {
    pub(crate) const ALL: [Self; 10] = [
        Self::Noop,
        Self::Linear,
        Self::Diamond,
        Self::ComplexDag,
        Self::HierarchicalTree,
        Self::FanOut,
        Self::Chain,
        Self::Conditional,
        Self::Map,
        Self::Batch,
    ];

    /// Its name in the report.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Noop => "noop",
            Self::Linear => "linear 4",
            Self::Diamond => "diamond",
            Self::ComplexDag => "dag 7",
            Self::HierarchicalTree => "tree 8",
            Self::FanOut => "fan-out 1,000",
            Self::Chain => "chain 1,000",
            Self::Conditional => "conditional",
            Self::Map => "map 10,000",
            Self::Batch => "batch 1,000 rows",
        }
    }

    /// The template's name.
    pub(crate) fn template(self) -> &'static str {
        match self {
            Self::Noop => "noop",
            Self::Linear => "linear_workflow",
            Self::Diamond => "diamond_workflow",
            Self::ComplexDag => "complex_dag",
            Self::HierarchicalTree => "hierarchical_tree",
            Self::FanOut => "fan_out",
            Self::Chain => "chain",
            Self::Conditional => "conditional_approval",
            Self::Map => "thumbnail_map",
            Self::Batch => "csv_batch",
        }
    }

    /// What a task is created with, where the template's defaults don't do.
    pub(crate) fn context(self) -> Option<Value> {
        match self {
            Self::Conditional => Some(json!({"amount": 5000, "requester": "bench"})),
            Self::Map => Some(json!({"count": IMAGES})),
            Self::Batch => Some(json!({"csv_path": stage::csv_path()})),
            _ => None,
        }
    }

    /// How many steps there are at the end.
    pub(crate) fn steps(self) -> usize {
        match self {
            Self::Noop => 1,
            Self::Linear | Self::Diamond => 4,
            Self::ComplexDag => 7,
            Self::HierarchicalTree => 8,
            Self::FanOut => LARGE + 2,
            Self::Chain => LARGE,
            Self::Conditional => 5,
            Self::Map => IMAGES + 3,
            Self::Batch => CSV_ROWS / ROWS_A_BATCH + 3,
        }
    }

    pub(crate) fn is_large(self) -> bool {
        self.steps() >= LARGE
    }

    /// The namespace that the worker serves it in: the examples' own, or that of the generated templates.
    pub(crate) fn served_namespace(self) -> &'static str {
        match self {
            _ if self.is_generated() => SERVED,
            Self::Conditional => "approvals",
            Self::Map => "media",
            Self::Batch => "data",
            _ => "example",
        }
    }

    pub(crate) fn is_generated(self) -> bool {
        matches!(self, Self::Noop | Self::FanOut | Self::Chain)
    }

    /// The steps of a generated template.
    fn generated_steps(self) -> Vec<Value> {
        match self {
            Self::FanOut => fan_out(LARGE),
            Self::Chain => chain(LARGE),
            _ => vec![step("only", &[])],
        }
    }

    /// The template's document, in a namespace; of a generated shape.
    pub(crate) fn generate(self, namespace: &str) -> Value {
        template(self.template(), namespace, &self.generated_steps())
    }
}

/// Linear 4 for a namespace that the worker doesn't serve.
pub(crate) fn linear(namespace: &str) -> Value {
    template(Shape::Linear.template(), namespace, &chain(4))
}

/// A fan-out with so many steps in all, at least three, for the namespace that nobody serves.
pub(crate) fn wide(steps: usize) -> Value {
    template(&wide_name(steps), UNSERVED, &fan_out(steps - 2))
}

/// The name of that template.
pub(crate) fn wide_name(steps: usize) -> String {
    format!("wide_{steps}")
}

/// A map over the array that its first step returns, for the namespace that nobody serves.
pub(crate) fn map() -> Value {
    let mut mapped = step("mapped", &["list".to_owned()]);
    mapped["type"] = json!("map");
    mapped["over"] = json!("list.items");
    let last = step("last", &["mapped".to_owned()]);
    template(MAP, UNSERVED, &[step("list", &[]), mapped, last])
}

fn template(name: &str, namespace: &str, steps: &[Value]) -> Value {
    json!({
        "name": name,
        "namespace_name": namespace,
        "version": "1.0.0",
        "input_schema": {"type": "object", "properties": {"n": {"type": "integer", "default": 1}}},
        "steps": steps,
    })
}

fn step(name: &str, dependencies: &[String]) -> Value {
    let callable = if dependencies.len() > 1 {
        JOIN_HANDLER
    } else {
        HANDLER
    };
    json!({"name": name, "handler": {"callable": callable}, "dependencies": dependencies})
}

fn chain(length: usize) -> Vec<Value> {
    let name = |number: usize| format!("step_{number:04}");
    (1..=length)
        .map(|number| {
            let dependencies: Vec<_> = (number > 1).then(|| name(number - 1)).into_iter().collect();
            step(&name(number), &dependencies)
        })
        .collect()
}

fn fan_out(width: usize) -> Vec<Value> {
    let branches: Vec<_> = (1..=width)
        .map(|number| format!("branch_{number:04}"))
        .collect();
    let mut steps = vec![step("start", &[])];
    steps.extend(
        branches
            .iter()
            .map(|name| step(name, &["start".to_owned()])),
    );
    steps.push(step("join", &branches));
    steps
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_generated_template_has_as_many_steps_as_its_shape_says() {
        for shape in Shape::ALL.into_iter().filter(|shape| shape.is_generated()) {
            let steps = shape.generate("x")["steps"].as_array().map(Vec::len);
            assert_eq!(steps, Some(shape.steps()), "{shape:?}");
        }
    }

    #[test]
    fn a_wide_template_has_as_many_steps_as_asked_for_and_each_its_own_name() {
        let document = wide(12_000);
        let steps = document["steps"].as_array().cloned().unwrap_or_default();
        let names: BTreeSet<_> = steps.iter().map(|step| step["name"].to_string()).collect();
        assert_eq!([steps.len(), names.len()], [12_000, 12_000]);
    }

    #[test]
    fn the_join_depends_on_every_branch_and_the_start_on_nothing() {
        let steps = fan_out(3);
        assert_eq!(
            steps[4]["dependencies"],
            json!(["branch_0001", "branch_0002", "branch_0003"])
        );
        assert_eq!(steps[0]["dependencies"], json!([]));
    }
}
