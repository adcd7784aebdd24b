//! A graph in a terminal: a row a step, layer by layer, and before the names lanes that lead from a step down to those that wait for it.
//!
//! A step that others wait for opens a lane (`┌`, `┬`), which ends with the last of them (`└`, `┴`); each of them touches it (`├`, `┼`). A lane that
//! goes past a row unconnected stays whole (`│`). No two steps share a lane at once, so that what is drawn can mean one graph only.

use std::fmt::Write as _;

use unicode_width::UnicodeWidthStr;

use super::layers::Graph;
use super::look::{DIM, NO_COLOUR, RESET, colour_of_step, sign_of};
use super::{Node, Standing};
use crate::output::plain;

/// More lanes than this can't be followed by eye: further steps are named by those that wait for them.
const MOST_LANES: usize = 24;
/// So many names are told of a row; of more, how many there are.
const MOST_NAMES: usize = 3;
/// The sign of a step that isn't there.
const ABSENT: char = '○';
/// The sign of a template's step.
const PLANNED: char = '•';

/// The lanes of one row, as characters from the left.
struct Row {
    place: usize,
    lanes: Vec<char>,
    /// Whether a line leads on to the name.
    is_joined: bool,
    /// What it waits for and has no lane.
    named: Vec<usize>,
}

/// Draws the steps, one a line, with colours where they are wanted.
pub(crate) fn rows(nodes: &[Node], has_colours: bool) -> String {
    let graph = Graph::of(nodes);
    let rows = laid_out(&graph);
    let lanes_width = rows.iter().map(|row| row.lanes.len()).max().unwrap_or(0);
    let names: Vec<String> = nodes.iter().map(|node| one_line(&node.name)).collect();
    let name_width = names.iter().map(|name| name.width()).max().unwrap_or(0);
    let number_width = graph.layers.len().to_string().len();
    let mut numbers = graph.layers.iter().enumerate().flat_map(|(layer, steps)| {
        let first = (layer + 1).to_string();
        (0..steps.len()).map(move |index| {
            if index == 0 {
                first.clone()
            } else {
                String::new()
            }
        })
    });

    let paint = |text: &str, colour: &str| {
        if has_colours && colour != NO_COLOUR && !text.is_empty() {
            format!("{colour}{text}{RESET}")
        } else {
            text.to_owned()
        }
    };
    let mut lines = Vec::with_capacity(rows.len());
    for row in &rows {
        let node = &nodes[row.place];
        let (sign, state, colour) = look_of(&node.standing);
        let number = format!("{:>number_width$}", numbers.next().unwrap_or_default());
        let mut line = format!("{}  ", paint(&number, DIM));
        let _ = write!(line, "{} ", paint(&lanes_of(row, lanes_width), DIM));
        let sign = sign.to_string();
        let name = &names[row.place];
        let padding = " ".repeat(name_width - name.width());
        let _ = write!(line, "{} {name}{padding}", paint(&sign, colour));
        if let Some(state) = state {
            let _ = write!(line, "  {}", paint(&one_line(state), colour));
        }
        for remark in remarks(row, node, &names) {
            let _ = write!(line, "  {}", paint(&remark, DIM));
        }
        lines.push(line.trim_end().to_owned());
    }
    lines.join("\n")
}

/// Its sign, what is said of its state, and the colour of both.
fn look_of(standing: &Standing) -> (char, Option<&str>, &'static str) {
    match standing {
        Standing::Planned => (PLANNED, None, NO_COLOUR),
        Standing::NotCreated => (ABSENT, Some("not created"), DIM),
        Standing::In(state) => (sign_of(state), Some(state), colour_of_step(state)),
    }
}

fn laid_out(graph: &Graph) -> Vec<Row> {
    let order: Vec<usize> = graph.layers.concat();
    let mut row_of = vec![0; order.len()];
    for (row, place) in order.iter().enumerate() {
        row_of[*place] = row;
    }
    let last_row = |place: usize| graph.after[place].iter().map(|other| row_of[*other]).max();
    // The step that each lane comes from, and the row that it ends with.
    let mut lanes: Vec<Option<(usize, usize)>> = Vec::new();
    let mut rows = Vec::with_capacity(order.len());
    for (row, place) in order.iter().copied().enumerate() {
        let before = &graph.before[place];
        let comes_in = |lane: &Option<(usize, usize)>| {
            lane.is_some_and(|(source, _)| before.contains(&source))
        };
        let named = before
            .iter()
            .copied()
            .filter(|source| !lanes.iter().flatten().any(|(other, _)| other == source))
            .collect();
        let opened = last_row(place)
            .filter(|last| *last > row)
            .and_then(|last| open(&mut lanes, (place, last)));
        let first = lanes
            .iter()
            .enumerate()
            .position(|(index, lane)| opened == Some(index) || comes_in(lane));
        let drawn = lanes.iter().enumerate().map(|(index, lane)| {
            let is_after_first = first.is_some_and(|first| first < index);
            match lane {
                None if is_after_first => '─',
                None => ' ',
                Some(_) if opened == Some(index) => junction(false, true, is_after_first),
                Some((_, last)) if comes_in(lane) => junction(true, *last > row, is_after_first),
                Some(_) => '│',
            }
        });
        rows.push(Row {
            place,
            lanes: drawn.collect(),
            is_joined: first.is_some(),
            named,
        });
        for lane in &mut lanes {
            if lane.is_some_and(|(_, last)| last <= row) {
                *lane = None;
            }
        }
    }
    rows
}

/// Takes the first lane that is free.
fn open(lanes: &mut Vec<Option<(usize, usize)>>, lane: (usize, usize)) -> Option<usize> {
    let free = lanes
        .iter()
        .position(Option::is_none)
        .unwrap_or(lanes.len());
    if free == MOST_LANES {
        return None;
    }
    if free == lanes.len() {
        lanes.push(None);
    }
    lanes[free] = Some(lane);
    Some(free)
}

/// What leads to the right, and up, down, or to the left.
fn junction(up: bool, down: bool, left: bool) -> char {
    match (up, down, left) {
        (true, true, false) => '├',
        (true, true, true) => '┼',
        (true, false, false) => '└',
        (true, false, true) => '┴',
        (false, _, false) => '┌',
        (false, _, true) => '┬',
    }
}

fn lanes_of(row: &Row, width: usize) -> String {
    let filler = if row.is_joined { '─' } else { ' ' };
    let missing = width - row.lanes.len();
    let lanes = row.lanes.iter().copied();
    lanes.chain(std::iter::repeat_n(filler, missing)).collect()
}

fn remarks(row: &Row, node: &Node, names: &[String]) -> Vec<String> {
    let mut remarks = Vec::new();
    if node.kind != "standard" {
        remarks.push(one_line(&node.kind));
    }
    remarks.extend(node.note.as_deref().map(one_line));
    if !row.named.is_empty() {
        let shown: Vec<&str> = row
            .named
            .iter()
            .take(MOST_NAMES)
            .map(|place| names[*place].as_str())
            .collect();
        let mut remark = format!("after {}", shown.join(", "));
        if row.named.len() > MOST_NAMES {
            let _ = write!(remark, " and {} more", row.named.len() - MOST_NAMES);
        }
        remarks.push(remark);
    }
    remarks
}

fn one_line(text: &str) -> String {
    plain(text).replace(['\n', '\t'], " ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drawing::tests::{diamond, node};

    fn drawn(nodes: &[Node]) -> Vec<String> {
        rows(nodes, false).lines().map(str::to_owned).collect()
    }

    #[test]
    fn a_diamond_opens_its_branches_and_joins_them() {
        assert_eq!(
            drawn(&diamond()),
            [
                "1  ┌── ✓ start  complete",
                "2  ├┬─ ▶ b      in_progress",
                "   └│┬ ✗ c      error",
                "3   └┴ · end    pending",
            ]
        );
    }

    #[test]
    fn a_chain_and_a_fan_out_are_drawn_differently() {
        let chain = [
            node("a", &[], ""),
            node("b", &["a"], ""),
            node("c", &["b"], ""),
        ];
        let fan = [
            node("a", &[], ""),
            node("b", &["a"], ""),
            node("c", &["a"], ""),
        ];
        let lanes = |nodes: &[Node]| -> Vec<String> {
            drawn(nodes)
                .iter()
                .map(|line| line.chars().skip(3).take(2).collect())
                .collect()
        };
        assert_eq!(lanes(&chain), ["┌─", "└┬", " └"]);
        assert_eq!(lanes(&fan)[..2], ["┌ ", "├ "]);
        assert_ne!(lanes(&chain), lanes(&fan));
    }

    #[test]
    fn a_step_of_a_template_has_no_state() {
        let mut planned = node("a", &[], "");
        planned.standing = Standing::Planned;
        assert_eq!(drawn(&[planned]), ["1   • a"]);
        assert_eq!(drawn(&[node("a", &[], "")]), ["1   ○ a  not created"]);
    }

    #[test]
    fn what_has_no_lane_left_is_named() {
        let names: Vec<String> = (0..40).map(|number| format!("s{number:02}")).collect();
        let mut nodes: Vec<Node> = names.iter().map(|name| node(name, &[], "")).collect();
        let all: Vec<&str> = names.iter().map(String::as_str).collect();
        nodes.push(node("join", &all, "pending"));
        let lines = drawn(&nodes);
        assert!(
            lines[40].ends_with("after s24, s25, s26 and 13 more"),
            "{lines:?}"
        );
    }

    #[test]
    fn colours_surround_signs_and_states_only_when_asked_for() {
        assert!(rows(&diamond(), true).contains("\x1b[32m✓\x1b[0m start"));
        assert!(!rows(&diamond(), false).contains('\x1b'));
    }

    #[test]
    fn a_chain_of_ten_thousand_steps_takes_two_lanes() {
        let names: Vec<String> = (0..10_000).map(|number| format!("s{number}")).collect();
        let nodes: Vec<Node> = (0..names.len())
            .map(|place| {
                let before = place.checked_sub(1).map(|before| names[before].as_str());
                node(&names[place], &before.into_iter().collect::<Vec<_>>(), "")
            })
            .collect();
        let lines = drawn(&nodes);
        assert_eq!(lines.len(), 10_000);
        assert!(lines.iter().all(|line| line.chars().count() < 40));
    }
}
