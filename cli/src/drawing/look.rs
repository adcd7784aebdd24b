//! How a state looks: its sign, its colour in a terminal, its class in a document.

use std::io::IsTerminal;

use super::Standing;

pub(crate) const NO_COLOUR: &str = "";
pub(crate) const DIM: &str = "\x1b[2m";
pub(crate) const RED: &str = "\x1b[31m";
pub(crate) const GREEN: &str = "\x1b[32m";
pub(crate) const YELLOW: &str = "\x1b[33m";
pub(crate) const BLUE: &str = "\x1b[34m";
pub(crate) const CYAN: &str = "\x1b[36m";
pub(crate) const RESET: &str = "\x1b[0m";

/// The classes of states in documents: name, fill, stroke.
pub(super) const CLASSES: [(&str, &str, &str); 8] = [
    ("done", "#dff3e4", "#2e7d4f"),
    ("running", "#d9eefb", "#1c6ea4"),
    ("ready", "#e4e7fb", "#4a55b0"),
    ("retrying", "#fdf0cf", "#9a6b00"),
    ("failed", "#fbdcdc", "#b02a2a"),
    ("cancelled", "#eeeeee", "#777777"),
    ("waiting", "#ffffff", "#777777"),
    ("absent", "#ffffff", "#bbbbbb"),
];

/// Whether colours are welcome on stdout: it is a terminal, and nobody asked not to.
pub(crate) fn has_colours() -> bool {
    let asked_not_to = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    std::io::stdout().is_terminal() && !asked_not_to && !is_dumb
}

/// The sign of a step's state.
pub(crate) fn sign_of(state: &str) -> char {
    match state {
        "complete" | "resolved_manually" => '✓',
        "in_progress" => '▶',
        "error" => '✗',
        "cancelled" => '⊘',
        "waiting_for_retry" => '↻',
        "pending" => '·',
        _ => '•',
    }
}

/// The colour of a step's state.
pub(crate) fn colour_of_step(state: &str) -> &'static str {
    match state {
        "complete" | "resolved_manually" => GREEN,
        "in_progress" => CYAN,
        "error" => RED,
        "waiting_for_retry" => YELLOW,
        "pending" | "cancelled" => DIM,
        _ => BLUE,
    }
}

/// The class of how a step stands.
pub(super) fn class_of(standing: &Standing) -> &'static str {
    match standing {
        Standing::NotCreated => "absent",
        Standing::Planned => "waiting",
        Standing::In(state) => class_of_state(state),
    }
}

fn class_of_state(state: &str) -> &'static str {
    match state {
        "complete" | "resolved_manually" => "done",
        "in_progress" => "running",
        "error" => "failed",
        "cancelled" => "cancelled",
        "waiting_for_retry" => "retrying",
        "pending" => "waiting",
        _ => "ready",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_of_a_state_is_defined() {
        let states = [
            "complete",
            "resolved_manually",
            "in_progress",
            "error",
            "cancelled",
            "waiting_for_retry",
            "pending",
            "enqueued",
            "of a newer version",
        ];
        let standings = states.into_iter().map(|state| Standing::of(Some(state)));
        for standing in standings.chain([Standing::Planned, Standing::NotCreated]) {
            let class = class_of(&standing);
            assert!(CLASSES.iter().any(|(name, _, _)| *name == class), "{class}");
        }
    }
}
