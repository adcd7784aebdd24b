//! The command line as a page, for the documentation.

use std::fmt::Write;

use clap::{Arg, Command, CommandFactory};

use crate::options::Options;

/// A Markdown page of all commands: what each does, its arguments, its example.
#[must_use]
pub fn reference() -> String {
    let mut command = Options::command();
    // Before the build, the options of all commands are those of the first only.
    let global: Vec<Arg> = command.get_arguments().cloned().collect();
    command.build();
    let mut page = String::from("# Command line\n\n");
    let about = command.get_about().map(ToString::to_string);
    let _ = writeln!(page, "`tasker-ctl`: {}.\n", about.unwrap_or_default());
    if let Some(help) = command.get_after_help() {
        let _ = writeln!(page, "```\n{help}\n```\n");
    }
    page.push_str("## Options of all commands\n\n");
    table(&mut page, global.iter());
    for noun in command
        .get_subcommands()
        .filter(|noun| noun.get_name() != "help")
    {
        let _ = writeln!(page, "\n## {}\n", noun.get_name());
        let verbs: Vec<&Command> = noun
            .get_subcommands()
            .filter(|verb| verb.get_name() != "help")
            .collect();
        if verbs.is_empty() {
            section(&mut page, noun, &global);
        } else if let Some(about) = noun.get_about() {
            let _ = writeln!(page, "{about}.");
        }
        for verb in verbs {
            below(&mut page, noun.get_name(), verb, &global);
        }
    }
    page
}

fn below(page: &mut String, words: &str, command: &Command, global: &[Arg]) {
    let words = format!("{words} {}", command.get_name());
    let further: Vec<&Command> = command
        .get_subcommands()
        .filter(|further| further.get_name() != "help")
        .collect();
    if further.is_empty() {
        let _ = writeln!(page, "\n### {words}\n");
        section(page, command, global);
    }
    for further in further {
        below(page, &words, further, global);
    }
}

fn section(page: &mut String, command: &Command, global: &[Arg]) {
    let about = command.get_long_about().or_else(|| command.get_about());
    if let Some(about) = about {
        let _ = writeln!(page, "{}.\n", about.to_string().trim_end_matches('.'));
    }
    let usage = command.clone().render_usage().to_string();
    let _ = writeln!(page, "```\n{}\n```", usage.trim_start_matches("Usage: "));
    let own: Vec<&Arg> = command
        .get_arguments()
        .filter(|argument| {
            global
                .iter()
                .all(|shared| shared.get_id() != argument.get_id())
        })
        .collect();
    if !own.is_empty() {
        page.push('\n');
        table(page, own.into_iter());
    }
    if let Some(example) = command.get_after_help() {
        let _ = writeln!(page, "\n```\n{example}\n```");
    }
}

fn table<'a>(page: &mut String, arguments: impl Iterator<Item = &'a Arg>) {
    let mut is_first = true;
    for argument in arguments {
        let id = argument.get_id().as_str();
        if id == "help" || id == "version" || argument.is_hide_set() {
            continue;
        }
        if std::mem::take(&mut is_first) {
            page.push_str("| | |\n|---|---|\n");
        }
        let values = argument.get_value_names().unwrap_or_default();
        let takes = argument.get_action().takes_values();
        let value = values.first().filter(|_| takes);
        let name = match (argument.get_short(), argument.get_long()) {
            (_, None) => format!("<{}>", values.first().map_or(id, |name| name.as_str())),
            (short, Some(long)) => {
                let short = short.map_or_else(String::new, |short| format!("-{short}, "));
                let value = value.map_or_else(String::new, |value| format!(" <{value}>"));
                format!("{short}--{long}{value}")
            }
        };
        let help = argument.get_long_help().or_else(|| argument.get_help());
        let mut help = help.map(ToString::to_string).unwrap_or_default();
        let choices: Vec<String> = argument
            .get_possible_values()
            .iter()
            .filter(|_| takes)
            .map(|choice| format!("`{}`", choice.get_name()))
            .collect();
        if !choices.is_empty() {
            let _ = write!(help, ": {}", choices.join(", "));
        }
        let defaults = argument.get_default_values().iter();
        let defaults: Vec<_> = defaults.map(|value| value.to_string_lossy()).collect();
        if takes && !defaults.is_empty() {
            let _ = write!(help, " (without it `{}`)", defaults.join(","));
        }
        let help = help.replace('|', "\\|").replace('\n', " ");
        let _ = writeln!(page, "| `{}` | {help} |", name.replace('|', "\\|"));
    }
}
