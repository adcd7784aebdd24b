//! Graphs: random ones against a naive reference, and large ones.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::{Value, json};
use tasker_rules::finding::{Finding, FindingCode};
use tasker_rules::graph::{CompiledTemplate, compile};
use tasker_rules::template::{Limits, Source, Template, check};

/// A template with a step for each list of positions it depends on.
fn document(graph: &[Vec<usize>]) -> Value {
    let steps: Vec<Value> = graph
        .iter()
        .enumerate()
        .map(|(position, dependencies)| {
            let dependencies: Vec<String> = dependencies.iter().map(|dependency| format!("s{dependency}")).collect();
            json!({ "name": format!("s{position}"), "handler": { "callable": "x" }, "dependencies": dependencies })
        })
        .collect();
    json!({ "name": "t", "version": "1", "steps": steps })
}

fn template(graph: &[Vec<usize>]) -> Template {
    // Past the checks, so that graphs with rings get as far as the compiler.
    serde_json::from_value(document(graph)).unwrap()
}

fn errors(graph: &[Vec<usize>]) -> Vec<Finding> {
    let findings = check(Source::Json(document(graph)), None, &Limits::default()).findings;
    findings.into_iter().filter(Finding::is_error).collect()
}

/// Which steps can be reached from which, by trying every way: Floyd and Warshall's closure.
fn reachable(graph: &[Vec<usize>]) -> Vec<Vec<bool>> {
    let count = graph.len();
    let mut reach = vec![vec![false; count]; count];
    for (from, dependencies) in graph.iter().enumerate() {
        for &to in dependencies {
            reach[from][to] = true;
        }
    }
    for via in 0..count {
        for from in 0..count {
            for to in 0..count {
                reach[from][to] |= reach[from][via] && reach[via][to];
            }
        }
    }
    reach
}

/// The positions in the order of their numbers, found by looking for the first free step again and again.
fn naive_order(graph: &[Vec<usize>]) -> Vec<usize> {
    let mut order: Vec<usize> = Vec::new();
    while let Some(next) = (0..graph.len()).find(|position| {
        !order.contains(position) && graph[*position].iter().all(|needed| order.contains(needed))
    }) {
        order.push(next);
    }
    order
}

/// Graphs of any shape, without steps that depend on themselves or twice on another.
fn graphs() -> impl Strategy<Value = Vec<Vec<usize>>> {
    (1_usize..14).prop_flat_map(|count| {
        prop::collection::vec(prop::collection::btree_set(0..count, 0..=3), count).prop_map(
            |graph| {
                let without_self = |(position, set): (usize, BTreeSet<usize>)| {
                    set.into_iter()
                        .filter(|&dependency| dependency != position)
                        .collect()
                };
                graph.into_iter().enumerate().map(without_self).collect()
            },
        )
    })
}

/// Graphs without rings, in an order that tells nothing about theirs.
fn acyclic_graphs() -> impl Strategy<Value = Vec<Vec<usize>>> {
    (1_usize..20).prop_flat_map(|count| {
        let places = Just((0..count).collect::<Vec<usize>>()).prop_shuffle();
        let edges = prop::collection::vec(
            prop::collection::vec(any::<prop::sample::Index>(), 0..=4),
            count,
        );
        (places, edges).prop_map(move |(places, edges)| {
            let mut graph = vec![Vec::new(); count];
            for (rank, wanted) in edges.iter().enumerate().skip(1) {
                let set: BTreeSet<usize> = wanted
                    .iter()
                    .map(|index| places[index.index(rank)])
                    .collect();
                graph[places[rank]] = set.into_iter().collect();
            }
            graph
        })
    })
}

fn position_of(name: &str) -> usize {
    name.trim_start_matches('s').parse().unwrap()
}

fn positions(compiled: &CompiledTemplate, numbers: &[u32]) -> BTreeSet<usize> {
    numbers
        .iter()
        .map(|&number| position_of(&compiled.step(number).unwrap().name))
        .collect()
}

proptest! {
    #[test]
    fn a_ring_is_found_exactly_where_a_step_can_reach_itself(graph in graphs()) {
        let reach = reachable(&graph);
        let in_rings = |from: usize| (0..graph.len()).filter(move |&to| reach[from][to] && reach[to][from]);
        let groups: BTreeSet<Vec<usize>> =
            (0..graph.len()).map(|position| in_rings.clone()(position).collect()).filter(|group: &Vec<usize>| !group.is_empty()).collect();
        let found = errors(&graph);
        prop_assert_eq!(found.len(), groups.len());
        prop_assert_eq!(compile(&template(&graph)).is_err(), !groups.is_empty());
        for (finding, group) in found.iter().zip(&groups) {
            prop_assert_eq!(finding.code, FindingCode::CycleDetected);
            let told = finding.message.rsplit(": ").next().unwrap();
            let ring: Vec<usize> = told.split(" -> ").map(position_of).collect();
            prop_assert_eq!(ring.first(), ring.last());
            prop_assert_eq!(ring[0], group[0]);
            prop_assert!(ring.windows(2).all(|pair| graph[pair[0]].contains(&pair[1])), "{}", told);
            let distinct: BTreeSet<usize> = ring.iter().copied().collect();
            prop_assert_eq!(distinct.len(), ring.len() - 1);
        }
    }

    #[test]
    fn steps_are_numbered_in_topological_order_and_know_both_neighbours(graph in acyclic_graphs()) {
        let compiled = compile(&template(&graph)).unwrap();
        let order: Vec<usize> = compiled.steps.iter().map(|step| position_of(&step.name)).collect();
        prop_assert_eq!(&order, &naive_order(&graph));
        for (step, position) in compiled.steps.iter().zip(order) {
            prop_assert_eq!(compiled.step(step.number), Some(step));
            prop_assert!(step.dependencies.iter().all(|&dependency| dependency < step.number));
            prop_assert!(step.dependencies.is_sorted() && step.dependents.is_sorted());
            let wanted: BTreeSet<usize> = graph[position].iter().copied().collect();
            prop_assert_eq!(positions(&compiled, &step.dependencies), wanted);
            let waiting: BTreeSet<usize> = (0..graph.len()).filter(|&other| graph[other].contains(&position)).collect();
            prop_assert_eq!(positions(&compiled, &step.dependents), waiting);
            prop_assert_eq!(step.initial_dependencies as usize, graph[position].len());
        }
    }

    #[test]
    fn behind_steps_that_have_ended_are_all_that_reach_one_of_them(
        (graph, picked) in acyclic_graphs().prop_flat_map(|graph| { let count = graph.len(); (Just(graph), prop::collection::btree_set(1..=count as u32, 0..4)) })
    ) {
        let compiled = compile(&template(&graph)).unwrap();
        let reach = reachable(&graph);
        let place = |number: u32| position_of(&compiled.step(number).unwrap().name);
        let mut wanted = Vec::new();
        for number in (1..=graph.len() as u32).filter(|number| !picked.contains(number)) {
            let first = picked.iter().copied().find(|&ended| reach[place(number)][place(ended)]);
            wanted.extend(first.map(|ended| (number, ended)));
        }
        prop_assert_eq!(compiled.behind(&picked), wanted);
    }

    #[test]
    fn the_order_in_which_dependencies_are_written_changes_nothing(graph in acyclic_graphs()) {
        let mut turned = graph.clone();
        for dependencies in &mut turned {
            dependencies.reverse();
        }
        prop_assert_eq!(compile(&template(&graph)).unwrap(), compile(&template(&turned)).unwrap());
    }
}

#[test]
fn a_template_that_was_not_checked_is_refused_by_the_compiler() {
    let mut template = template(&[vec![], vec![0]]);
    template.steps[1].dependencies = vec!["s0".to_owned(), "nowhere".to_owned(), "s1".to_owned()];
    template.steps[0].name = "s1".to_owned();
    let codes: BTreeSet<FindingCode> = compile(&template)
        .unwrap_err()
        .iter()
        .map(|finding| finding.code)
        .collect();
    let expected = [
        FindingCode::DuplicateStepName,
        FindingCode::MissingDependency,
        FindingCode::SelfDependency,
    ];
    assert_eq!(codes, BTreeSet::from(expected));
}

#[test]
fn a_chain_of_ten_thousand_steps_written_backwards_compiles() {
    let count = 10_000;
    let graph: Vec<Vec<usize>> = (0..count)
        .map(|position| {
            if position + 1 < count {
                vec![position + 1]
            } else {
                vec![]
            }
        })
        .collect();
    assert_eq!(errors(&graph), []);
    let compiled = compile(&template(&graph)).unwrap();
    assert_eq!(compiled.step(1).unwrap().name, "s9999");
    assert_eq!(compiled.first_steps().count(), 1);
}

#[test]
fn layers_of_a_hundred_steps_compile() {
    let graph: Vec<Vec<usize>> = (0..10_000_usize)
        .map(|position| match position / 100 {
            0 => vec![],
            layer => (0..3)
                .map(|offset| (layer - 1) * 100 + (position + offset * 7) % 100)
                .collect(),
        })
        .collect();
    assert_eq!(errors(&graph), []);
    let compiled = compile(&template(&graph)).unwrap();
    assert_eq!(compiled.first_steps().count(), 100);
    assert!(
        compiled
            .steps
            .iter()
            .all(|step| step.number as usize == position_of(&step.name) + 1)
    );
}

#[test]
fn a_ring_through_ten_thousand_steps_is_told_in_bounded_length() {
    let count = 10_000;
    let graph: Vec<Vec<usize>> = (0..count)
        .map(|position| vec![(position + 1) % count])
        .collect();
    let found = errors(&graph);
    assert_eq!(found.len(), 1);
    assert!(found[0].message.contains("s0 -> s1 -> s2 -> "));
    assert!(found[0].message.ends_with("-> s49 -> (9950 more) -> s0"));
}

#[test]
fn ten_thousand_missing_names_are_all_found() {
    let mut document = document(&vec![vec![]; 10_000]);
    for step in document["steps"].as_array_mut().unwrap() {
        step["dependencies"] = json!(["s10000"]);
    }
    let findings = check(Source::Json(document), None, &Limits::default()).findings;
    let missing = findings
        .iter()
        .filter(|finding| finding.code == FindingCode::MissingDependency);
    assert_eq!(missing.count(), 10_000);
}

#[test]
fn a_batchable_step_shows_its_handler_how_to_cut() {
    let document = json!({ "name": "t", "version": "1", "steps": [
        { "name": "cut", "type": "batchable", "handler": { "callable": "x" }, "batch_config": { "batch_size": 200, "cursor_field": "row_number" } },
        { "name": "work", "type": "batch_worker", "handler": { "callable": "y" }, "dependencies": ["cut"] },
    ] });
    let compiled = compile(&serde_json::from_value(document).unwrap()).unwrap();
    let shown = &compiled.step(1).unwrap().handler["batch_config"];
    assert_eq!(
        (&shown["batch_size"], &shown["cursor_field"]),
        (&json!(200), &json!("row_number"))
    );
    assert_eq!(compiled.step(2).unwrap().handler.get("batch_config"), None);
}
