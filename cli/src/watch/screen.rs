//! The tree drawn on a terminal, again and again in the same place.

use std::fmt::Write as _;
use std::io::Write as _;

use chrono::{DateTime, Utc};
use tasker_client::Step;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use crate::drawing::look::{
    CYAN, DIM, GREEN, NO_COLOUR, RED, RESET, YELLOW, colour_of_step, has_colours, sign_of,
};
use crate::failure::Failure;
use crate::output::{duration, plain};
use crate::watch::tree::{Line, lay_out};
use crate::watch::{Snapshot, step_duration};

/// The size of a terminal that doesn't say.
const DEFAULT_SIZE: Size = Size {
    columns: 80,
    rows: 24,
};
/// Lines above and below the tree, and the one that the cursor stands on.
const OTHER_ROWS: usize = 4;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Size {
    columns: usize,
    rows: usize,
}

/// What is on the terminal now.
#[derive(Debug)]
pub(crate) struct Screen {
    drawn_rows: usize,
    has_colours: bool,
}

/// A piece of a line: its text, and the colour it has.
type Piece = (String, &'static str);

impl Screen {
    pub(crate) fn new() -> Self {
        Self {
            drawn_rows: 0,
            has_colours: has_colours(),
        }
    }

    /// Draws over what was drawn before.
    pub(crate) fn draw(&mut self, snapshot: &Snapshot, now: DateTime<Utc>) -> Result<(), Failure> {
        let size = terminal_size();
        let lines = lines_of(snapshot, now, size.rows.saturating_sub(OTHER_ROWS).max(1));
        let mut text = String::new();
        if self.drawn_rows > 0 {
            // The terminal may have become smaller; further up than its first row there is nothing to reach.
            let _ = write!(
                text,
                "\x1b[{}A",
                self.drawn_rows.min(size.rows.saturating_sub(1).max(1))
            );
        }
        for line in &lines {
            text.push_str("\r\x1b[2K");
            self.push_line(&mut text, line, size.columns);
            text.push('\n');
        }
        text.push_str("\x1b[J");
        self.drawn_rows = lines.len();
        let mut stdout = std::io::stdout().lock();
        stdout.write_all(text.as_bytes())?;
        stdout.flush()?;
        Ok(())
    }

    /// A line that wrapped would count as two and spoil the next drawing, so it is cut at the terminal's width.
    fn push_line(&self, text: &mut String, pieces: &[Piece], columns: usize) {
        let mut left = columns.saturating_sub(1);
        for (piece, colour) in pieces {
            let shown = cut(piece, left);
            left -= shown.width();
            if self.has_colours && !colour.is_empty() {
                let _ = write!(text, "{colour}{shown}{RESET}");
            } else {
                text.push_str(&shown);
            }
        }
    }
}

fn cut(text: &str, columns: usize) -> String {
    let mut width = 0;
    text.chars()
        .take_while(|c| {
            width += c.width().unwrap_or(0);
            width <= columns
        })
        .collect()
}

fn terminal_size() -> Size {
    match rustix::termios::tcgetwinsize(std::io::stdout()) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => Size {
            columns: usize::from(size.ws_col),
            rows: usize::from(size.ws_row),
        },
        _ => DEFAULT_SIZE,
    }
}

/// The whole picture: the task, its tree, and a line that sums up.
fn lines_of(snapshot: &Snapshot, now: DateTime<Utc>, most_rows: usize) -> Vec<Vec<Piece>> {
    let Snapshot { task, steps } = snapshot;
    let head = format!(
        "{}/{} {}  ",
        task.namespace, task.template_name, task.template_version
    );
    let mut lines = vec![vec![(head, NO_COLOUR), (task.task_uuid.to_string(), DIM)]];

    let tree = lay_out(steps);
    let name_width = tree
        .iter()
        .map(|line| name_of(line, steps).width())
        .max()
        .unwrap_or(0)
        .min(60);
    let shown = choose(&tree, steps, most_rows);
    lines.extend(
        shown
            .iter()
            .map(|line| step_line(line, steps, name_width, now)),
    );
    let hidden = tree.len() - shown.len();
    if hidden > 0 {
        lines.push(vec![(format!("… and {hidden} more steps"), DIM)]);
    }

    let elapsed = duration(task.finished_at.unwrap_or(now) - task.created_at);
    let failed = if task.steps_failed > 0 {
        format!(", {} failed", task.steps_failed)
    } else {
        String::new()
    };
    let sum = format!(
        "  {} of {} steps done{failed}, {elapsed}",
        task.steps_done, task.steps_total
    );
    lines.push(vec![
        (task.state.clone(), colour_of_task(&task.state)),
        (sum, NO_COLOUR),
    ]);
    lines
}

/// All steps if there is room; else first those that are under way or went wrong, then the others, in the tree's order.
fn choose<'a>(tree: &'a [Line], steps: &[Step], most_rows: usize) -> Vec<&'a Line> {
    if tree.len() <= most_rows {
        return tree.iter().collect();
    }
    let rows = most_rows.saturating_sub(1);
    let mut places: Vec<usize> = (0..tree.len()).collect();
    places.sort_by_key(|place| (interest_in(&steps[tree[*place].step].state), *place));
    places.truncate(rows);
    places.sort_unstable();
    places.into_iter().map(|place| &tree[place]).collect()
}

fn interest_in(state: &str) -> u8 {
    match state {
        "in_progress" => 0,
        "error" => 1,
        "waiting_for_retry" => 2,
        "enqueued" => 3,
        "pending" => 4,
        _ => 5,
    }
}

fn name_of(line: &Line, steps: &[Step]) -> String {
    format!("{}{}", line.prefix, plain(&steps[line.step].name))
}

fn step_line(line: &Line, steps: &[Step], name_width: usize, now: DateTime<Utc>) -> Vec<Piece> {
    let step = &steps[line.step];
    let name = name_of(line, steps);
    let padding = " ".repeat(name_width.saturating_sub(name.width()) + 2);
    let state = format!("{} {:<18}", sign_of(&step.state), step.state);
    let took = step_duration(step, now).map(duration).unwrap_or_default();
    let mut pieces = vec![
        (format!("{name}{padding}"), NO_COLOUR),
        (state, colour_of_step(&step.state)),
    ];
    pieces.push((format!(" {took:>8}"), NO_COLOUR));
    if step.attempts_used > 1 {
        pieces.push((
            format!("  attempt {} of {}", step.attempts_used, step.max_attempts),
            YELLOW,
        ));
    }
    if let ("waiting_for_retry", Some(retry_at)) = (step.state.as_str(), step.retry_at) {
        pieces.push((format!("  again in {}", duration(retry_at - now)), YELLOW));
    }
    if !line.also_after.is_empty() {
        pieces.push((
            format!("  after {}", plain(&line.also_after.join(", "))),
            DIM,
        ));
    }
    if let ("error" | "waiting_for_retry", Some(error)) = (step.state.as_str(), &step.error) {
        pieces.push((format!("  {}", message_of(error.get())), RED));
    }
    pieces
}

/// The message of a step's error, on one line.
fn message_of(error: &str) -> String {
    let message = serde_json::from_str::<serde_json::Value>(error)
        .ok()
        .and_then(|error| {
            error
                .get("message")
                .and_then(|message| message.as_str().map(str::to_owned))
        })
        .unwrap_or_else(|| error.to_owned());
    plain(&message).replace(['\n', '\t'], " ")
}

fn colour_of_task(state: &str) -> &'static str {
    match state {
        "complete" | "resolved_manually" => GREEN,
        "error" | "blocked_by_failures" => RED,
        "cancelled" => DIM,
        "waiting_for_retry" | "waiting_for_dependencies" => YELLOW,
        _ => CYAN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch::tree::tests::{step, task};

    fn text_of(lines: &[Vec<Piece>]) -> Vec<String> {
        lines
            .iter()
            .map(|pieces| pieces.iter().map(|(text, _)| text.as_str()).collect())
            .collect()
    }

    fn snapshot() -> Snapshot {
        let steps = vec![
            step(1, "start", &[], "complete"),
            step(2, "b", &["start"], "in_progress"),
            step(3, "c", &["start"], "error"),
            step(4, "end", &["b", "c"], "pending"),
        ];
        Snapshot {
            task: task("steps_in_process"),
            steps,
        }
    }

    #[test]
    fn every_step_has_a_line_between_the_head_and_the_sum() {
        let lines = text_of(&lines_of(&snapshot(), Utc::now(), 20));
        assert_eq!(lines.len(), 6);
        assert!(lines[0].starts_with("example/diamond 1.0.0"));
        assert!(
            lines[2].contains("├─ b") && lines[2].contains("in_progress"),
            "{lines:?}"
        );
        assert!(lines[4].contains("after b"), "{lines:?}");
        assert!(lines[5].starts_with("steps_in_process"));
    }

    #[test]
    fn in_a_low_terminal_what_runs_and_what_failed_is_shown_first() {
        let lines = text_of(&lines_of(&snapshot(), Utc::now(), 3));
        assert_eq!(lines.len(), 5);
        assert!(
            lines[1].contains("─ b") && lines[2].contains("─ c"),
            "{lines:?}"
        );
        assert_eq!(lines[3], "… and 2 more steps");
    }

    #[test]
    fn a_line_is_cut_by_its_width_on_the_terminal() {
        assert_eq!(cut("abc", 2), "ab");
        assert_eq!(cut("日本", 3), "日");
    }

    #[test]
    fn an_error_is_shown_by_its_message_on_one_line() {
        assert_eq!(message_of(r#"{"message":"no\nstock"}"#), "no stock");
        assert_eq!(message_of(r#""plain""#), r#""plain""#);
    }
}
