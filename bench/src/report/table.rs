//! The report as a table of text.

use super::Report;
use super::targets::number;
use crate::distribution::{Distribution, median};
use crate::drain::Drain;
use crate::flat::Flat;
use crate::limits::Limits;
use crate::limits::rabbitmq::RabbitMq;
use crate::limits::rounds::QueueRounds;
use crate::one_map::OneMap;

/// The whole report.
pub(crate) fn render(report: &Report) -> String {
    let sections = [
        machine(report),
        limits(&report.limits),
        latency(report),
        half_load(report),
        creation(report),
        drains(report),
        one_task(report),
        one_map(&report.figures.one_map),
        flat(&report.figures.flat),
        memory(report),
        targets(report),
    ];
    let mut text = sections
        .iter()
        .map(write_section)
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

/// The machine's limits by themselves.
pub(crate) fn render_limits(measured: &Limits) -> String {
    write_section(&limits(measured))
}

/// What an element of a map costs, by itself.
pub(crate) fn render_maps(measured: &[OneMap]) -> String {
    write_section(&one_map(measured))
}

/// What each condition leaves of a drain's rate, by itself.
pub(crate) fn render_flat(measured: &[Flat]) -> String {
    write_section(&flat(measured))
}

type Section = (&'static str, Vec<Vec<String>>);

fn write_section((title, rows): &Section) -> String {
    format!("{title}\n{}", align(rows))
}

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

fn limits(limits: &Limits) -> Section {
    let mut rows = vec![row(&["", "a second", "p50 ms", "p95 ms", "p99 ms"])];
    for commits in &limits.commits {
        let name = format!("one-row commits, {} clients", commits.clients);
        rows.push(spread(&name, &number(commits.per_second), commits.latency));
    }
    rows.extend(queue("PGMQ", "send, read, delete", limits.pgmq));
    match limits.rabbitmq {
        RabbitMq::Measured(rounds) => {
            rows.extend(queue("RabbitMQ", "publish, consume, ack", rounds));
        }
        RabbitMq::NotInstalled => rows.push(row(&["RabbitMQ isn't installed"])),
        RabbitMq::Failed => rows.push(row(&["RabbitMQ couldn't be measured"])),
    }
    ("the machine's limits", rows)
}

fn queue(name: &str, round: &str, rounds: QueueRounds) -> [Vec<String>; 2] {
    [
        spread(
            &format!("{name} {round}, one by one"),
            &number(rounds.one_by_one_messages_per_second),
            rounds.one_by_one,
        ),
        vec![
            format!("{name} in hundreds, messages"),
            number(rounds.hundreds_messages_per_second),
        ],
    ]
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

fn half_load(report: &Report) -> Section {
    let mut rows = vec![row(&[
        "",
        "sustains",
        "tasks/s",
        "tasks",
        "p50 ms",
        "p95 ms",
        "p99 ms",
        "in c",
        "wake-up p50",
        "late p99",
    ])];
    let c = report.limits.commit_ms();
    let figures = &report.figures;
    for (sustained, half) in figures.sustained.iter().zip(&figures.half_load) {
        let mut cells = vec![
            half.shape.to_owned(),
            number(sustained.tasks_per_second),
            number(half.tasks_per_second),
        ];
        let spread = spread("", &half.complete.count.to_string(), half.complete);
        cells.extend(spread.into_iter().skip(1));
        cells.push(number(half.complete.p50_ms / c));
        cells.push(number(half.wake_up.p50_ms));
        cells.push(number(half.late.p99_ms));
        rows.push(cells);
    }
    (
        "tasks arriving at half of what the worker sustains, from create to complete",
        rows,
    )
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
        "CPU µs/step",
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
        number(cost.processor_us),
        number(cost.tuples_written),
        number(cost.dead_tuples),
        percent(cost.hot_share),
        number(drain.created_steps_per_second),
    ]
}

fn one_task(report: &Report) -> Section {
    let mut rows = vec![row(&["steps", "tasks", "create ms", "drain ms", "steps/s"])];
    for size in &report.figures.one_task {
        let each = |seconds: f64| number(seconds * 1_000.0 / size.tasks as f64);
        rows.push(vec![
            number(size.steps as f64),
            size.tasks.to_string(),
            each(size.create_seconds),
            each(size.drain_seconds),
            number(size.steps_per_second),
        ]);
    }
    ("one task, created and drained on one connection", rows)
}

fn one_map(measured: &[OneMap]) -> Section {
    let mut rows = vec![row(&[
        "elements",
        "tasks",
        "make ms",
        "whole ms",
        "µs/element",
    ])];
    for size in measured {
        let each = |seconds: f64| number(seconds * 1_000.0 / size.tasks as f64);
        rows.push(vec![
            number(size.elements as f64),
            size.tasks.to_string(),
            each(size.make_seconds),
            each(size.seconds),
            number(size.microseconds_per_element),
        ]);
    }
    ("one map, drained on one connection", rows)
}

fn flat(measured: &[Flat]) -> Section {
    let mut rows = vec![row(&[
        "",
        "connections",
        "plain steps/s",
        "steps/s",
        "ratio",
        "plain CPU µs/step",
        "CPU µs/step",
        "ratio",
    ])];
    let middle = |rates: &[f64]| number(median(rates.to_vec()).unwrap_or_default());
    for flat in measured {
        rows.push(vec![
            flat.condition.clone(),
            flat.connections.to_string(),
            middle(&flat.plain_steps_per_second),
            middle(&flat.steps_per_second),
            number(flat.ratio),
            middle(&flat.plain_processor_us),
            middle(&flat.processor_us),
            number(flat.processor_ratio),
        ]);
        rows.push(vec![format!("  {}", flat.done)]);
    }
    (
        "linear 4 drained under a condition and in a plain database, by turns",
        rows,
    )
}

fn memory(report: &Report) -> Section {
    let mut rows = vec![row(&["", "now MB", "peak MB"])];
    let figures = &report.figures;
    let mut held = vec![
        ("server".to_owned(), figures.server_memory),
        ("worker".to_owned(), figures.worker_memory),
    ];
    for run in &figures.sustained {
        let steps = number(run.steps as f64);
        held.push((
            format!("worker, after a tenth of {steps} steps of {}", run.shape),
            run.memory_after_a_tenth,
        ));
        held.push(("worker, at their end".to_owned(), run.memory_at_the_end));
    }
    for (name, memory) in held {
        rows.push(vec![
            name,
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

/// The first column to the left, the others to the right. A row of one cell is a remark, which may be as long as it likes.
fn align(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let cell = |row: &Vec<String>, column: usize| row.get(column).cloned().unwrap_or_default();
    let widths: Vec<usize> = (0..columns)
        .map(|column| {
            let widths = rows
                .iter()
                .filter(|row| row.len() > 1)
                .map(|row| cell(row, column).chars().count());
            widths.max().unwrap_or(0)
        })
        .collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (column, width) in widths.iter().enumerate() {
            let cell = cell(row, column);
            let padding = " ".repeat(width.saturating_sub(cell.chars().count()));
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

    #[test]
    fn the_limits_say_so_when_rabbitmq_is_not_installed() {
        let rounds = QueueRounds {
            one_by_one: Distribution::of(vec![1.0]).unwrap(),
            one_by_one_messages_per_second: 900.0,
            hundreds_messages_per_second: 20_000.0,
        };
        let mut limits = Limits {
            commits: Vec::new(),
            pgmq: rounds,
            rabbitmq: RabbitMq::NotInstalled,
        };
        let text = render_limits(&limits);
        assert!(text.ends_with("\n  RabbitMQ isn't installed\n"), "{text}");
        limits.rabbitmq = RabbitMq::Measured(rounds);
        let text = render_limits(&limits);
        assert!(text.contains("RabbitMQ in hundreds, messages"), "{text}");
    }

    #[test]
    fn a_remark_widens_no_column() {
        let rows = [row(&["x", "100"]), row(&["  a long remark"])];
        assert_eq!(align(&rows), "  x  100\n    a long remark\n");
    }
}
