//! `--watch`: a command that only looks is run again and again, and shown whenever it says something else.

use std::io::IsTerminal;
use std::time::Duration;

use clap::ArgMatches;

use crate::failure::Failure;
use crate::output::{self, Output};

const PERIOD: Duration = Duration::from_secs(1);
/// The cursor at the top of an empty screen.
const CLEAR: &str = "\x1b[2J\x1b[H";

/// The verbs that change nothing, whatever the noun.
const LOOKS: [&str; 17] = [
    "check",
    "compensations",
    "explain",
    "get",
    "graph",
    "grants",
    "health",
    "history",
    "info",
    "list",
    "preview",
    "show",
    "signals",
    "stale",
    "stats",
    "status",
    "steps",
];
/// What follows a task until it ends.
const FOLLOWS: [&str; 2] = ["create", "watch"];

/// What `--watch` means for a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Watch {
    /// It is run again and again.
    Repeats,
    /// It goes on by itself as long as there is something to see.
    Follows,
    /// Nothing: repeated, it would change something each time.
    Nothing,
}

/// What `--watch` means for the command that was given.
pub(crate) fn watch_of(matches: &ArgMatches) -> Watch {
    let mut words = Vec::new();
    let mut level = matches;
    while let Some((word, inner)) = level.subcommand() {
        words.push(word);
        level = inner;
    }
    match words[..] {
        ["task", verb] if FOLLOWS.contains(&verb) => Watch::Follows,
        [_, .., verb] if LOOKS.contains(&verb) => Watch::Repeats,
        _ => Watch::Nothing,
    }
}

/// Runs the command until it fails or the program is interrupted. While the database is away the last answer stands.
pub(crate) async fn run(
    output: Output,
    once: impl AsyncFn() -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut shown: Option<String> = None;
    let mut is_away = false;
    loop {
        match output::captured(once()).await {
            Ok(text) => {
                is_away = false;
                if shown.as_ref() != Some(&text) {
                    show(output, &text, shown.is_none())?;
                    shown = Some(text);
                }
            }
            Err(Failure::Client(error)) if error.is_transient() => {
                if !is_away {
                    eprintln!("{}; trying again", Failure::from(error).text());
                }
                is_away = true;
            }
            Err(failure) => return Err(failure),
        }
        tokio::time::sleep(PERIOD).await;
    }
}

fn show(output: Output, text: &str, is_first: bool) -> Result<(), Failure> {
    let text = text.trim_end_matches('\n');
    if output.is_yaml() {
        return output::line(&format!("---\n{text}"));
    }
    if output.is_json() {
        return output::line(text);
    }
    if std::io::stdout().is_terminal() {
        return output::line(&format!("{CLEAR}{text}"));
    }
    let gap = if is_first { "" } else { "\n" };
    output::line(&format!("{gap}{text}"))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::options::Options;

    fn watch(words: &[&str]) -> Watch {
        let line = ["tasker-ctl"].iter().chain(words);
        watch_of(&Options::command().get_matches_from(line))
    }

    #[test]
    fn only_what_changes_nothing_is_repeated() {
        let nothing = "01890000-0000-7000-8000-000000000000";
        assert_eq!(watch(&["task", "list"]), Watch::Repeats);
        assert_eq!(watch(&["task", "get", nothing]), Watch::Repeats);
        assert_eq!(watch(&["bulk", "list", "--watch"]), Watch::Repeats);
        assert_eq!(watch(&["task", "cancel", nothing]), Watch::Nothing);
        assert_eq!(watch(&["template", "register", "x.yaml"]), Watch::Nothing);
        assert_eq!(watch(&["task", "create", "x", "--watch"]), Watch::Follows);
        assert_eq!(watch(&["task", "watch", nothing]), Watch::Follows);
    }
}
