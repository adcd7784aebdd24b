//! `tasker-ctl task graph`.

use std::collections::{BTreeMap, HashMap};

use tasker_client::{Client, GraphNode};

use super::options::GraphOptions;
use crate::drawing::{self, Node, Standing, look};
use crate::failure::Failure;
use crate::output::{self, Output};

/// More instances of one step than this are summed up.
const MOST_INSTANCES: usize = 6;
/// The digits at the end of an instance's name, at the least.
const INSTANCE_DIGITS: usize = 6;

pub(super) async fn run(
    client: &Client,
    options: &GraphOptions,
    output: Output,
) -> Result<(), Failure> {
    let task_uuid = options.task.task_uuid;
    let graph = client.task_graph(task_uuid).await?;
    if options.mermaid {
        return output::line(drawing::mermaid(&nodes_of(&graph)).trim_end());
    }
    if options.svg {
        let picture = drawing::svg(&format!("Task {task_uuid}"), &nodes_of(&graph));
        return output::line(picture.trim_end());
    }
    output.show(&graph, || {
        drawing::rows(&nodes_of(&graph), look::has_colours())
    })
}

/// The steps as they are drawn: many instances of one are a note beside it.
fn nodes_of(graph: &[GraphNode]) -> Vec<Node> {
    let place_of: HashMap<&str, usize> = graph
        .iter()
        .enumerate()
        .map(|(place, node)| (node.name.as_str(), place))
        .collect();
    let mut instances: BTreeMap<usize, Vec<&GraphNode>> = BTreeMap::new();
    for node in graph {
        if let Some(definition) = definition_of(node, graph, &place_of) {
            instances.entry(definition).or_default().push(node);
        }
    }
    let is_summed_up = |node: &GraphNode| {
        definition_of(node, graph, &place_of)
            .and_then(|place| instances.get(&place))
            .is_some_and(|instances| instances.len() > MOST_INSTANCES)
    };
    let mut nodes: Vec<Node> = graph
        .iter()
        .enumerate()
        .map(|(place, node)| Node {
            name: node.name.clone(),
            kind: node.r#type.clone(),
            standing: Standing::of(node.state.as_deref()),
            note: note_of(node, instances.get(&place)),
            dependencies: node.dependencies.clone(),
        })
        .collect();
    // What stands for instances waits for them, which only they say.
    for node in graph.iter().filter(|node| !is_summed_up(node)) {
        let dependents = node.dependents.iter();
        for place in dependents.filter_map(|name| place_of.get(name.as_str())) {
            nodes[*place].dependencies.push(node.name.clone());
        }
    }
    let drawn = graph.iter().map(|node| !is_summed_up(node));
    let kept = nodes.into_iter().zip(drawn).filter(|(_, drawn)| *drawn);
    kept.map(|(node, _)| node).collect()
}

/// The place of the step that an instance was made of: it is named after it, with a number.
fn definition_of(
    node: &GraphNode,
    graph: &[GraphNode],
    place_of: &HashMap<&str, usize>,
) -> Option<usize> {
    let (name, number) = node.name.rsplit_once('_')?;
    let is_number =
        number.len() >= INSTANCE_DIGITS && number.bytes().all(|byte| byte.is_ascii_digit());
    let place = place_of.get(name).copied().filter(|_| is_number)?;
    let makes_instances = matches!(graph[place].r#type.as_str(), "map" | "batch_worker");
    makes_instances.then_some(place)
}

fn note_of(node: &GraphNode, instances: Option<&Vec<&GraphNode>>) -> Option<String> {
    if let Some(child) = node.child_task_uuid {
        return Some(format!("child task {child}"));
    }
    let instances = instances.filter(|instances| instances.len() > MOST_INSTANCES)?;
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for instance in instances {
        *counts
            .entry(instance.state.as_deref().unwrap_or("not created"))
            .or_default() += 1;
    }
    let parts: Vec<String> = counts
        .iter()
        .map(|(state, count)| format!("{count} {state}"))
        .collect();
    Some(format!(
        "{} instances: {}",
        instances.len(),
        parts.join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, kind: &str, dependencies: &[&str], dependents: &[&str]) -> GraphNode {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        GraphNode {
            number: 1,
            name: name.to_owned(),
            r#type: kind.to_owned(),
            step_uuid: None,
            state: Some("complete".to_owned()),
            created: true,
            dependencies: names(dependencies),
            dependents: names(dependents),
            child_task_uuid: None,
        }
    }

    fn map_with(instances: usize) -> Vec<GraphNode> {
        let mut graph = vec![
            node("list", "standard", &[], &["resize"]),
            node("resize", "map", &["list"], &["publish"]),
            node("publish", "standard", &["resize"], &[]),
        ];
        graph.extend((1..=instances).map(|number| {
            let name = format!("resize_{number:06}");
            node(&name, "map", &["list"], &["resize"])
        }));
        graph
    }

    #[test]
    fn a_few_instances_lie_between_the_source_and_what_stands_for_them() {
        let nodes = nodes_of(&map_with(2));
        assert_eq!(nodes.len(), 5);
        assert!(nodes[1].dependencies.contains(&"resize_000002".to_owned()));
        assert_eq!(nodes[1].note, None);
    }

    #[test]
    fn many_instances_are_a_note() {
        let nodes = nodes_of(&map_with(40));
        assert_eq!(nodes.len(), 3);
        assert_eq!(nodes[1].note.as_deref(), Some("40 instances: 40 complete"));
    }

    #[test]
    fn a_step_whose_name_ends_in_digits_is_no_instance() {
        let graph = [
            node("load", "standard", &[], &[]),
            node("load_000001", "standard", &["load"], &[]),
        ];
        assert_eq!(nodes_of(&graph).len(), 2);
        assert_eq!(nodes_of(&graph)[0].note, None);
    }
}
