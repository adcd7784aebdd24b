//! How deep each step lies: below the deepest of those it waits for.

use std::collections::HashMap;

use super::Node;

/// A graph by the places of its steps in the list they came from.
#[derive(Debug)]
pub(super) struct Graph {
    /// What each step waits for.
    pub(super) before: Vec<Vec<usize>>,
    /// What waits for each step.
    pub(super) after: Vec<Vec<usize>>,
    /// The steps of each layer, the roots first.
    pub(super) layers: Vec<Vec<usize>>,
}

impl Graph {
    /// Lays steps out, in whatever order they come. A ring, which no registered template has, is cut open.
    pub(super) fn of(nodes: &[Node]) -> Self {
        let place_of: HashMap<&str, usize> = nodes
            .iter()
            .enumerate()
            .map(|(place, node)| (node.name.as_str(), place))
            .collect();
        let mut before = Vec::with_capacity(nodes.len());
        let mut after = vec![Vec::new(); nodes.len()];
        for (place, node) in nodes.iter().enumerate() {
            let names = node.dependencies.iter();
            let mut known: Vec<usize> = names
                .filter_map(|name| place_of.get(name.as_str()).copied())
                .filter(|other| *other != place)
                .collect();
            known.sort_unstable();
            known.dedup();
            for other in &known {
                after[*other].push(place);
            }
            before.push(known);
        }
        let mut graph = Self {
            before,
            after,
            layers: Vec::new(),
        };
        graph.layers = graph.sorted();
        graph
    }

    /// Layer by layer: a step is placed when all it waits for are.
    fn sorted(&self) -> Vec<Vec<usize>> {
        let mut waiting: Vec<usize> = self.before.iter().map(Vec::len).collect();
        let mut is_placed = vec![false; waiting.len()];
        let mut layers = Vec::new();
        let mut layer: Vec<usize> = places(&waiting, |count| count == 0);
        let mut left = waiting.len();
        while left > 0 {
            if layer.is_empty() {
                // Only rings are left: the first of them is placed as if it waited for nothing.
                layer.extend(is_placed.iter().position(|placed| !placed));
            }
            left -= layer.len();
            let mut next = Vec::new();
            for place in &layer {
                is_placed[*place] = true;
            }
            for place in &layer {
                for other in &self.after[*place] {
                    waiting[*other] = waiting[*other].saturating_sub(1);
                    if waiting[*other] == 0 && !is_placed[*other] {
                        next.push(*other);
                    }
                }
            }
            next.sort_unstable();
            next.dedup();
            layers.push(std::mem::replace(&mut layer, next));
        }
        layers
    }

    /// Moves the steps of each layer towards those they wait for, so that fewer edges cross.
    pub(super) fn untangle(&mut self) {
        let mut position = vec![0.0_f64; self.before.len()];
        for layer in &mut self.layers {
            let mean = |place: &usize| {
                let before = &self.before[*place];
                let sum: f64 = before.iter().map(|other| position[*other]).sum();
                if before.is_empty() {
                    0.0
                } else {
                    sum / float(before.len())
                }
            };
            let mut keyed: Vec<(f64, usize)> =
                layer.iter().map(|place| (mean(place), *place)).collect();
            keyed.sort_by(|one, other| one.0.total_cmp(&other.0).then(one.1.cmp(&other.1)));
            *layer = keyed.iter().map(|(_, place)| *place).collect();
            // Between 0 and 1, so that layers of different sizes can be compared.
            let size = float(layer.len());
            for (index, place) in layer.iter().enumerate() {
                position[*place] = (float(index) + 0.5) / size;
            }
        }
    }
}

/// A count as a length.
pub(super) fn float(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

fn places(counts: &[usize], wanted: impl Fn(usize) -> bool) -> Vec<usize> {
    let indexed = counts.iter().enumerate();
    indexed
        .filter(|(_, count)| wanted(**count))
        .map(|(place, _)| place)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drawing::tests::{diamond, node};

    #[test]
    fn a_step_lies_below_the_deepest_of_those_it_waits_for() {
        let nodes = [
            node("a", &[], ""),
            node("b", &["a"], ""),
            node("c", &["a", "b"], ""),
            node("d", &["a", "nowhere"], ""),
        ];
        let layers = Graph::of(&nodes).layers;
        assert_eq!(layers, [vec![0], vec![1, 3], vec![2]]);
        assert_eq!(Graph::of(&diamond()).layers.len(), 3);
        assert!(Graph::of(&[]).layers.is_empty());
    }

    #[test]
    fn steps_in_a_ring_are_placed_all_the_same() {
        let nodes = [
            node("a", &["b"], ""),
            node("b", &["a"], ""),
            node("c", &["c"], ""),
        ];
        let placed: usize = Graph::of(&nodes).layers.iter().map(Vec::len).sum();
        assert_eq!(placed, 3);
    }

    #[test]
    fn a_step_moves_towards_what_it_waits_for() {
        let nodes = [
            node("a", &[], ""),
            node("b", &[], ""),
            node("of_b", &["b"], ""),
            node("of_a", &["a"], ""),
        ];
        let mut layers = Graph::of(&nodes);
        layers.untangle();
        assert_eq!(layers.layers, [vec![0, 1], vec![3, 2]]);
    }
}
