//! The steps of a task as a tree: each step under the last of its dependencies.
//!
//! A graph has joins, a tree has none: a step is drawn once, below the dependency that lies deepest (the one that is
//! usually settled last), and names the others beside it.

use std::collections::HashMap;

use tasker_client::Step;

/// A branch deeper than this many bytes isn't moved further to the right: no terminal would show it.
const WIDEST_PREFIX: usize = 120;

/// One line of the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    /// The step's place in the list it came from.
    pub(crate) step: usize,
    /// The branches before its name.
    pub(crate) prefix: String,
    /// The dependencies that the tree doesn't show.
    pub(crate) also_after: Vec<String>,
}

/// Lays the steps out; they come in topological order.
pub(crate) fn lay_out(steps: &[Step]) -> Vec<Line> {
    let place_of: HashMap<&str, usize> = steps
        .iter()
        .enumerate()
        .map(|(place, step)| (step.name.as_str(), place))
        .collect();
    let mut depths = vec![0_usize; steps.len()];
    let mut parents: Vec<Option<usize>> = vec![None; steps.len()];
    let mut children: Vec<Vec<usize>> = vec![Vec::new(); steps.len()];
    let mut roots = Vec::new();
    for (place, step) in steps.iter().enumerate() {
        // A dependency that isn't listed before its dependent can't be drawn above it.
        let known = step
            .dependencies
            .iter()
            .filter_map(|name| place_of.get(name.as_str()).copied());
        let parent = known
            .filter(|parent| *parent < place)
            .max_by_key(|parent| (depths[*parent], *parent));
        parents[place] = parent;
        match parent {
            None => roots.push(place),
            Some(parent) => {
                depths[place] = depths[parent] + 1;
                children[parent].push(place);
            }
        }
    }
    walk(&roots, &children)
        .into_iter()
        .map(|(place, prefix)| {
            let parent = parents[place].map(|parent| steps[parent].name.as_str());
            let others = steps[place]
                .dependencies
                .iter()
                .filter(|name| Some(name.as_str()) != parent);
            Line {
                step: place,
                prefix,
                also_after: others.cloned().collect(),
            }
        })
        .collect()
}

/// Depth first, without recursion: a chain may have ten thousand steps.
fn walk(roots: &[usize], children: &[Vec<usize>]) -> Vec<(usize, String)> {
    let mut lines = Vec::with_capacity(children.len());
    // A place, what stands before the branch of its own, and that branch.
    let mut open: Vec<(usize, String, &str)> = roots
        .iter()
        .rev()
        .map(|root| (*root, String::new(), ""))
        .collect();
    while let Some((place, before, branch)) = open.pop() {
        let below = match branch {
            _ if before.len() >= WIDEST_PREFIX => before.clone(),
            "├─ " => format!("{before}│  "),
            "└─ " => format!("{before}   "),
            _ => before.clone(),
        };
        for (index, child) in children[place].iter().enumerate().rev() {
            let is_last = index + 1 == children[place].len();
            open.push((*child, below.clone(), if is_last { "└─ " } else { "├─ " }));
        }
        lines.push((place, format!("{before}{branch}")));
    }
    lines
}

#[cfg(test)]
pub(crate) mod tests {
    use chrono::Utc;
    use serde_json::value::RawValue;
    use tasker_client::Task;
    use uuid::Uuid;

    use super::*;

    pub(crate) fn task(state: &str) -> Task {
        Task {
            task_uuid: Uuid::nil(),
            namespace: "example".to_owned(),
            template_name: "diamond".to_owned(),
            template_version: "1.0.0".to_owned(),
            state: state.to_owned(),
            context: RawValue::from_string("{}".to_owned()).expect("JSON"),
            priority: 0,
            tags: Vec::new(),
            correlation_id: None,
            parent_correlation_id: None,
            idempotency_key: None,
            initiator: None,
            source_system: None,
            reason: None,
            run_at: None,
            created_at: Utc::now(),
            started_at: None,
            finished_at: None,
            paused_at: None,
            steps_total: 0,
            steps_done: 0,
            steps_failed: 0,
            error: None,
            parent_task_uuid: None,
            parent_step_uuid: None,
            traceparent: None,
        }
    }

    pub(crate) fn step(number: u128, name: &str, dependencies: &[&str], state: &str) -> Step {
        Step {
            step_uuid: Uuid::from_u128(number),
            task_uuid: Uuid::nil(),
            name: name.to_owned(),
            r#type: "standard".to_owned(),
            instance: None,
            state: state.to_owned(),
            attempt: 1,
            attempts_used: 1,
            max_attempts: 3,
            handler: None,
            inputs: None,
            result: None,
            error: None,
            checkpoint: None,
            worker_id: None,
            lease_expires_at: None,
            retry_at: None,
            remaining_dependencies: 0,
            dependencies: dependencies.iter().map(|name| (*name).to_owned()).collect(),
            created_at: Utc::now(),
            enqueued_at: None,
            started_at: None,
            finished_at: None,
            child_task_uuid: None,
        }
    }

    fn drawn(steps: &[Step]) -> Vec<String> {
        lay_out(steps)
            .iter()
            .map(|line| {
                let also = if line.also_after.is_empty() {
                    String::new()
                } else {
                    format!(" + {}", line.also_after.join(","))
                };
                format!("{}{}{also}", line.prefix, steps[line.step].name)
            })
            .collect()
    }

    #[test]
    fn a_diamond_draws_its_join_once_and_names_the_other_branch() {
        let steps = [
            step(1, "start", &[], "complete"),
            step(2, "b", &["start"], "complete"),
            step(3, "c", &["start"], "complete"),
            step(4, "end", &["b", "c"], "pending"),
        ];
        assert_eq!(drawn(&steps), ["start", "├─ b", "└─ c", "   └─ end + b"]);
    }

    #[test]
    fn several_roots_and_nested_branches_keep_their_lines() {
        let steps = [
            step(1, "a", &[], "pending"),
            step(2, "z", &[], "pending"),
            step(3, "b", &["a"], "pending"),
            step(4, "c", &["a"], "pending"),
            step(5, "d", &["b"], "pending"),
        ];
        assert_eq!(drawn(&steps), ["a", "├─ b", "│  └─ d", "└─ c", "z"]);
    }

    #[test]
    fn a_chain_of_ten_thousand_steps_is_laid_out_within_bounds() {
        let names: Vec<String> = (0..10_000).map(|number| format!("s{number}")).collect();
        let steps: Vec<Step> = (0..names.len())
            .map(|place| {
                let after: Vec<&str> = place
                    .checked_sub(1)
                    .map(|before| names[before].as_str())
                    .into_iter()
                    .collect();
                step(place as u128 + 1, &names[place], &after, "pending")
            })
            .collect();
        let lines = lay_out(&steps);
        assert_eq!(lines.len(), 10_000);
        assert!(
            lines
                .iter()
                .all(|line| line.prefix.len() < 2 * WIDEST_PREFIX)
        );
    }
}
