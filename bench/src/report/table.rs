//! The report as a table of text.

use super::Report;
use super::targets::number;
use crate::distribution::Distribution;
use crate::drain::Drain;

/// The whole report.
pub(crate) fn render(report: &Report) -> String {
    let sections = [
        machine(report),
        limits(report),
        latency(report),
        creation(report),
        drains(report),
        memory(report),
        targets(report),
    ];
    let mut text = sections
        .iter()
        .map(|(title, rows)| format!("{title}\n{}", align(rows)))
        .collect::<Vec<_>>()
        .join("\n");
    text.push_str("\nreading\n");
    for line in &report.reading {
        text.push_str("  ");
        text.push_str(line);
        text.push('\n');
    }
    text
}

type Section = (&'static str, Vec<Vec<String>>);

fn row(cells: &[&str]) -> Vec<String> {
    cells.iter().map(|cell| (*cell).to_owned()).collect()
}

fn machine(report: &Report) -> Section {
    let machine = &report.machine;
    let mut rows = vec![row(&["", "busy with others", "stolen", "load average"])];
    for (name, others) in [
        ("before", machine.others_before),
        ("after", machine.others_after),
    ] {
        rows.push(vec![
            name.to_owned(),
            percent(others.busy_share),
            percent(others.stolen_share),
            number(others.load_average),
        ]);
    }
    ("machine", rows)
}

fn limits(report: &Report) -> Section {
    let mut rows = vec![row(&["", "a second", "p50 ms", "p95 ms", "p99 ms"])];
    for commits in &report.limits.commits {
        let name = format!("one-row commits, {} clients", commits.clients);
        rows.push(spread(&name, &number(commits.per_second), commits.latency));
    }
    let pgmq = report.limits.pgmq;
    rows.push(spread(
        "PGMQ send, read, delete, one by one",
        &number(pgmq.one_by_one_messages_per_second),
        pgmq.one_by_one,
    ));
    rows.push(vec![
        "PGMQ in hundreds, messages".to_owned(),
        number(pgmq.hundreds_messages_per_second),
    ]);
    ("the machine's limits", rows)
}

fn latency(report: &Report) -> Section {
    let mut rows = vec![row(&[
        "",
        "tasks",
        "p50 ms",
        "p95 ms",
        "p99 ms",
        "in c",
        "wake-up p50",
    ])];
    let c = report.limits.commit_ms();
    for lone in &report.figures.latency {
        let mut cells = spread(lone.shape, &lone.complete.count.to_string(), lone.complete);
        cells.push(number(lone.complete.p50_ms / c));
        cells.push(number(lone.wake_up.p50_ms));
        rows.push(cells);
    }
    ("one task at a time, from create to complete", rows)
}

fn creation(report: &Report) -> Section {
    let creation = report.figures.creation;
    let rows = vec![
        row(&["", "tasks/s", "p50 ms", "p95 ms", "p99 ms"]),
        spread(
            "by SQL",
            &number(creation.sql_tasks_per_second),
            creation.sql,
        ),
        spread("by REST", "", creation.rest),
    ];
    ("creating linear 4 one by one", rows)
}

fn drains(report: &Report) -> Section {
    let mut rows = vec![row(&[
        "",
        "connections",
        "tasks/s",
        "steps/s",
        "× C8",
        "WAL B/step",
        "commits/step",
        "tuples/step",
        "dead/step",
        "HOT",
        "created steps/s",
    ])];
    let c8 = report.limits.commits_per_second_of_8();
    let figures = &report.figures;
    for drain in figures
        .drains
        .iter()
        .chain([&figures.independent, &figures.fan_out])
    {
        rows.push(drain_row(drain, c8));
    }
    ("backlog drained, batches of 50", rows)
}

fn drain_row(drain: &Drain, c8: f64) -> Vec<String> {
    let cost = drain.per_step;
    vec![
        drain.shape.to_owned(),
        drain.connections.to_string(),
        number(drain.tasks_per_second),
        number(drain.steps_per_second),
        number(drain.steps_per_second / c8),
        number(cost.wal_bytes),
        number(cost.transactions),
        number(cost.tuples_written),
        number(cost.dead_tuples),
        percent(cost.hot_share),
        number(drain.created_steps_per_second),
    ]
}

fn memory(report: &Report) -> Section {
    let mut rows = vec![row(&["", "now MB", "peak MB"])];
    for (name, memory) in [
        ("server", report.figures.server_memory),
        ("worker", report.figures.worker_memory),
    ] {
        rows.push(vec![
            name.to_owned(),
            number(memory.resident_mb),
            number(memory.peak_mb),
        ]);
    }
    ("memory", rows)
}

fn targets(report: &Report) -> Section {
    let mut rows = vec![row(&["", "value", "", "target", "reached"])];
    for target in &report.targets {
        rows.push(vec![
            target.name.clone(),
            number(target.value),
            target.unit.to_owned(),
            target.target.clone(),
            if target.reached { "yes" } else { "NO" }.to_owned(),
        ]);
    }
    ("targets", rows)
}

fn spread(name: &str, first: &str, distribution: Distribution) -> Vec<String> {
    vec![
        name.to_owned(),
        first.to_owned(),
        number(distribution.p50_ms),
        number(distribution.p95_ms),
        number(distribution.p99_ms),
    ]
}

fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

/// The first column to the left, the others to the right.
fn align(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let cell = |row: &Vec<String>, column: usize| row.get(column).cloned().unwrap_or_default();
    let widths: Vec<usize> = (0..columns)
        .map(|column| {
            let widths = rows.iter().map(|row| cell(row, column).chars().count());
            widths.max().unwrap_or(0)
        })
        .collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (column, width) in widths.iter().enumerate() {
            let cell = cell(row, column);
            let padding = " ".repeat(width - cell.chars().count());
            line.push_str("  ");
            if column == 0 {
                line.push_str(&cell);
                line.push_str(&padding);
            } else {
                line.push_str(&padding);
                line.push_str(&cell);
            }
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stand_left_and_numbers_right() {
        let rows = [
            row(&["", "ms"]),
            row(&["long name", "1"]),
            row(&["x", "100"]),
        ];
        assert_eq!(
            align(&rows),
            "              ms\n  long name    1\n  x          100\n"
        );
    }
}
