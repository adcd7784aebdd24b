//! The settings of a program as a table, for its documentation.

use clap::{ArgAction, Command};

/// A Markdown table of all settings of a program: key in the file, flag, variable, what is built in, what it says.
#[must_use]
pub fn reference(command: &Command) -> String {
    let mut lines = vec![
        "| key | flag | variable | built in | |".to_owned(),
        "|---|---|---|---|---|".to_owned(),
    ];
    for argument in command.get_arguments() {
        let Some(long) = argument.get_long() else {
            continue;
        };
        if matches!(argument.get_action(), ArgAction::Help | ArgAction::Version) {
            continue;
        }
        let code = |text: &str| {
            if text.is_empty() {
                String::new()
            } else {
                format!("`{text}`")
            }
        };
        let variable = argument.get_env().unwrap_or_default().to_string_lossy();
        let defaults = argument.get_default_values().iter();
        let built_in: Vec<_> = defaults.map(|value| value.to_string_lossy()).collect();
        let help = argument.get_long_help().or_else(|| argument.get_help());
        let help = help.map(ToString::to_string).unwrap_or_default();
        lines.push(format!(
            "| `{}` | `--{long}` | {} | {} | {} |",
            argument.get_id(),
            code(&variable),
            code(&built_in.join(",")),
            help.replace('\n', " ").replace('|', "\\|")
        ));
    }
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[derive(clap::Parser)]
    struct Settings {
        /// How many
        #[arg(long, env = "DOC_MANY", default_value_t = 3)]
        #[allow(dead_code, reason = "only its flag is looked at")]
        many: u32,
    }

    #[test]
    fn a_setting_is_a_row() {
        let table = reference(&Settings::command());
        let row = "| `many` | `--many` | `DOC_MANY` | `3` | How many |\n";
        assert!(table.ends_with(row), "{table}");
    }
}
