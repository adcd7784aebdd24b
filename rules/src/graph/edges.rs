//! From names to edges: what each step waits for, in which order steps can run, and where they wait in a ring.
//!
//! Nothing here recurses: a chain may be as long as the limit on steps.

use std::cmp::Reverse;
use std::collections::hash_map::Entry;
use std::collections::{BinaryHeap, HashMap, HashSet, VecDeque};

use crate::finding::{Finding, FindingCode};
use crate::nearest::Hints;

/// The longest ring that is told in full.
const MAX_TOLD_RING: usize = 50;

/// For each step the positions of the steps it waits for, each once. What can not be resolved (a name that is missing
/// or double, a step that waits for itself, a ring) is a finding; a name that is `None` is told elsewhere.
pub(crate) fn resolve(
    names: &[Option<&str>],
    dependencies: &[&[Option<&str>]],
    findings: &mut Vec<Finding>,
) -> Vec<Vec<usize>> {
    let mut positions: HashMap<&str, usize> = HashMap::with_capacity(names.len());
    for (position, name) in names.iter().enumerate() {
        let Some(name) = *name else { continue };
        let first = *positions.entry(name).or_insert(position);
        if first != position {
            let message = format!("steps[{first}] has the name {name:?} already");
            findings.push(Finding::new(
                FindingCode::DuplicateStepName,
                format!("steps[{position}].name"),
                message,
            ));
        }
    }

    let mut hints = Hints::default();
    let mut edges = Vec::with_capacity(names.len());
    for (position, wanted) in dependencies.iter().enumerate() {
        let mut resolved = Vec::with_capacity(wanted.len());
        let mut seen = HashSet::with_capacity(wanted.len());
        for (index, name) in wanted
            .iter()
            .enumerate()
            .filter_map(|(index, name)| Some((index, (*name)?)))
        {
            let here = || format!("steps[{position}].dependencies[{index}]");
            match positions.get(name) {
                _ if names[position] == Some(name) => {
                    let message = format!("{name:?} waits for itself");
                    findings.push(Finding::new(FindingCode::SelfDependency, here(), message));
                }
                None => {
                    let message = format!(
                        "there is no step {name:?}{}",
                        hints.did_you_mean(name, names)
                    );
                    findings.push(Finding::new(
                        FindingCode::MissingDependency,
                        here(),
                        message,
                    ));
                }
                Some(&dependency) => {
                    if seen.insert(dependency) {
                        resolved.push(dependency);
                    }
                }
            }
        }
        edges.push(resolved);
    }
    for ring in rings(&edges) {
        findings.push(ring_finding(&ring, names));
    }
    edges
}

fn ring_finding(ring: &[usize], names: &[Option<&str>]) -> Finding {
    let name = |&position: &usize| names[position].unwrap_or("?");
    let mut told: Vec<&str> = ring.iter().take(MAX_TOLD_RING).map(name).collect();
    let left_out = ring.len() - told.len();
    let more = format!("({left_out} more)");
    if left_out > 0 {
        told.push(&more);
    }
    told.extend(ring.first().map(name));
    let message = format!(
        "each of these steps waits for the next: {}",
        told.join(" -> ")
    );
    let path = ring
        .first()
        .map(|position| format!("steps[{position}].dependencies"))
        .unwrap_or_default();
    Finding::new(FindingCode::CycleDetected, path, message)
}

/// An order in which each step comes after those it waits for; of those that could come next, the first by position.
/// Steps in a ring, or behind one, are left out.
pub(crate) fn topological_order(edges: &[Vec<usize>]) -> Vec<usize> {
    let dependents = inverse(edges);
    let mut open: Vec<usize> = edges.iter().map(Vec::len).collect();
    let mut ready: BinaryHeap<Reverse<usize>> = open
        .iter()
        .enumerate()
        .filter(|&(_, &count)| count == 0)
        .map(|(position, _)| Reverse(position))
        .collect();
    let mut order = Vec::with_capacity(edges.len());
    while let Some(Reverse(position)) = ready.pop() {
        order.push(position);
        for &dependent in &dependents[position] {
            open[dependent] -= 1;
            if open[dependent] == 0 {
                ready.push(Reverse(dependent));
            }
        }
    }
    order
}

fn inverse(edges: &[Vec<usize>]) -> Vec<Vec<usize>> {
    let mut dependents = vec![Vec::new(); edges.len()];
    for (position, dependencies) in edges.iter().enumerate() {
        for &dependency in dependencies {
            dependents[dependency].push(position);
        }
    }
    dependents
}

/// A ring for each group of steps that all wait for each other: a shortest one through the group's first step.
fn rings(edges: &[Vec<usize>]) -> Vec<Vec<usize>> {
    let order = topological_order(edges);
    if order.len() == edges.len() {
        return Vec::new();
    }
    let mut groups = groups(edges);
    groups.sort_unstable();
    groups
        .iter()
        .filter(|group| group.len() > 1)
        .map(|group| shortest_ring(group, edges))
        .collect()
}

/// The shortest way from the group's first step back to it, by breadth-first search inside the group.
fn shortest_ring(group: &[usize], edges: &[Vec<usize>]) -> Vec<usize> {
    let start = group[0];
    let members: HashSet<usize> = group.iter().copied().collect();
    let mut came_from: HashMap<usize, usize> = HashMap::new();
    let mut queue = VecDeque::from([start]);
    while let Some(position) = queue.pop_front() {
        for &next in edges[position].iter().filter(|next| members.contains(next)) {
            if next == start {
                let mut ring = vec![position];
                while let Some(&previous) = ring.last().and_then(|last| came_from.get(last)) {
                    ring.push(previous);
                }
                ring.reverse();
                return ring;
            }
            if let Entry::Vacant(entry) = came_from.entry(next) {
                entry.insert(position);
                queue.push_back(next);
            }
        }
    }
    // Not reached for a group of steps that wait for each other; the group itself names the steps concerned.
    group.to_vec()
}

/// The strongly connected components, each sorted (R. Tarjan, "Depth-first search and linear graph algorithms", 1972),
/// with a stack of its own in place of recursion.
fn groups(edges: &[Vec<usize>]) -> Vec<Vec<usize>> {
    const UNSEEN: usize = usize::MAX;
    let mut index = vec![UNSEEN; edges.len()];
    let mut low = vec![UNSEEN; edges.len()];
    let mut on_stack = vec![false; edges.len()];
    let (mut stack, mut groups, mut next_index) = (Vec::new(), Vec::new(), 0);
    for root in 0..edges.len() {
        if index[root] != UNSEEN {
            continue;
        }
        // A step and how many of its edges have been followed.
        let mut calls = vec![(root, 0_usize)];
        while let Some(&mut (position, ref mut followed)) = calls.last_mut() {
            if *followed == 0 && index[position] == UNSEEN {
                index[position] = next_index;
                low[position] = next_index;
                next_index += 1;
                stack.push(position);
                on_stack[position] = true;
            }
            if let Some(&dependency) = edges[position].get(*followed) {
                *followed += 1;
                if index[dependency] == UNSEEN {
                    calls.push((dependency, 0));
                } else if on_stack[dependency] {
                    low[position] = low[position].min(index[dependency]);
                }
                continue;
            }
            calls.pop();
            if let Some(&(caller, _)) = calls.last() {
                low[caller] = low[caller].min(low[position]);
            }
            if low[position] == index[position] {
                let start = stack
                    .iter()
                    .rposition(|&member| member == position)
                    .unwrap_or(0);
                let mut group = stack.split_off(start);
                for &member in &group {
                    on_stack[member] = false;
                }
                group.sort_unstable();
                groups.push(group);
            }
        }
    }
    groups
}
