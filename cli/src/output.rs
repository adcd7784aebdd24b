//! What is written to stdout: tables for people, JSON and YAML for programs.

mod yaml;

use std::cell::RefCell;
use std::io::Write;

use chrono::{DateTime, TimeDelta, Utc};
use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;

use crate::failure::Failure;

/// How results are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Format {
    /// For people
    Table,
    /// For programs
    Json,
    /// For programs and people
    Yaml,
    /// For people with a wide terminal: tables with all columns
    Wide,
}

/// Where results go, and in which form.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    format: Format,
}

impl Output {
    pub(crate) fn new(format: Format) -> Self {
        Self { format }
    }

    pub(crate) fn is_json(self) -> bool {
        self.format == Format::Json
    }

    pub(crate) fn is_yaml(self) -> bool {
        self.format == Format::Yaml
    }

    /// Whether programs read it.
    pub(crate) fn is_data(self) -> bool {
        self.is_json() || self.is_yaml()
    }

    /// Columns under their headings; the last ones only where there is room for all.
    pub(crate) fn table<const N: usize, const M: usize>(
        self,
        header: [&str; N],
        more: [&str; M],
        rows: impl IntoIterator<Item = ([String; N], [String; M])>,
    ) -> String {
        if self.format != Format::Wide {
            return table(header, rows.into_iter().map(|(row, _)| row));
        }
        let mut table = new_table();
        table.set_header(header.iter().chain(&more));
        for (row, more) in rows {
            table.add_row(row.iter().chain(&more).map(|cell| plain(cell)));
        }
        trimmed(&table)
    }

    /// Writes `value` as JSON or YAML, or what `text` makes of it.
    pub(crate) fn show<T: Serialize + ?Sized>(
        self,
        value: &T,
        text: impl FnOnce() -> String,
    ) -> Result<(), Failure> {
        // By way of a value, so that payloads that pass through as they are get the same layout.
        if self.is_json() {
            let value = serde_json::to_value(value)?;
            return line(&serde_json::to_string_pretty(&value)?);
        }
        if self.is_yaml() {
            return line(yaml::yaml(&serde_json::to_value(value)?).trim_end_matches('\n'));
        }
        line(text().trim_end_matches('\n'))
    }
}

tokio::task_local! {
    /// What is written while someone wants to have it instead of stdout.
    static CAPTURED: RefCell<String>;
}

/// What a command writes, instead of stdout.
pub(crate) async fn captured(
    command: impl Future<Output = Result<(), Failure>>,
) -> Result<String, Failure> {
    let run = async {
        command.await?;
        Ok(CAPTURED.with(RefCell::take))
    };
    CAPTURED.scope(RefCell::default(), run).await
}

/// Writes one line to stdout.
pub(crate) fn line(text: &str) -> Result<(), Failure> {
    let capture = |captured: &RefCell<String>| {
        let mut captured = captured.borrow_mut();
        captured.push_str(text);
        captured.push('\n');
    };
    if CAPTURED.try_with(capture).is_ok() {
        return Ok(());
    }
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{text}")?;
    stdout.flush()?;
    Ok(())
}

/// Columns under their headings.
pub(crate) fn table<const N: usize>(
    header: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> String {
    let mut table = new_table();
    table.set_header(header);
    for row in rows {
        table.add_row(row.map(|cell| plain(&cell)));
    }
    trimmed(&table)
}

/// One field a line; those without a value are left out.
pub(crate) fn fields<'a>(fields: impl IntoIterator<Item = (&'a str, Option<String>)>) -> String {
    let mut table = new_table();
    for (name, value) in fields {
        if let Some(value) = value {
            table.add_row([name.to_owned(), plain(&value)]);
        }
    }
    trimmed(&table)
}

fn new_table() -> Table {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled);
    table
}

fn trimmed(table: &Table) -> String {
    let lines: Vec<String> = table
        .lines()
        .map(|line| {
            line.strip_prefix(' ')
                .unwrap_or(&line)
                .trim_end()
                .to_owned()
        })
        .collect();
    lines.join("\n")
}

/// Text from a task or template may hold anything; control characters would let it steer the terminal.
pub(crate) fn plain(text: &str) -> String {
    text.chars()
        .map(|c| {
            if c.is_control() && c != '\n' && c != '\t' {
                '\u{FFFD}'
            } else {
                c
            }
        })
        .collect()
}

/// A time to the second, in UTC.
pub(crate) fn time(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M:%SZ").to_string()
}

/// A duration in two units at most: `340ms`, `2.5s`, `3m 07s`, `2h 05m`, `3d 04h`.
pub(crate) fn duration(elapsed: TimeDelta) -> String {
    let ms = elapsed.num_milliseconds().max(0);
    let seconds = ms / 1000;
    match seconds {
        0 => format!("{ms}ms"),
        1..60 => format!("{seconds}.{}s", ms % 1000 / 100),
        60..3600 => format!("{}m {:02}s", seconds / 60, seconds % 60),
        3600..86400 => format!("{}h {:02}m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{}d {:02}h", seconds / 86400, seconds % 86400 / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_short_at_every_size() {
        let shown: Vec<String> = [340, 2_599, 187_000, 7_500_000, 273_600_000, -5]
            .into_iter()
            .map(|ms| duration(TimeDelta::milliseconds(ms)))
            .collect();
        assert_eq!(
            shown,
            ["340ms", "2.5s", "3m 07s", "2h 05m", "3d 04h", "0ms"]
        );
    }

    #[test]
    fn tables_align_and_end_without_blanks() {
        let text = table(["NAME", "STATE"], [["a".to_owned(), "complete".to_owned()]]);
        assert_eq!(text, "NAME  STATE\na     complete");
    }

    #[test]
    fn a_wide_table_has_all_columns() {
        let row = || [(["a".to_owned()], ["b".to_owned()])];
        let wide = Output::new(Format::Wide).table(["ONE"], ["TWO"], row());
        assert_eq!(wide, "ONE  TWO\na    b");
        let narrow = Output::new(Format::Table).table(["ONE"], ["TWO"], row());
        assert_eq!(narrow, "ONE\na");
    }

    #[tokio::test]
    async fn what_is_captured_is_not_written() {
        let text = captured(async { line("one").and_then(|()| line("two")) }).await;
        assert_eq!(text.ok().as_deref(), Some("one\ntwo\n"));
    }

    #[test]
    fn control_characters_never_reach_the_terminal() {
        assert_eq!(plain("a\u{1b}[2Jb\nc"), "a\u{FFFD}[2Jb\nc");
    }
}
