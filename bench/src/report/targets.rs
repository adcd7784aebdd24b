//! What is wished for, each by the machine's limits of the same run, and whether it was reached.

use serde::Serialize;

use super::Figures;
use crate::drain::Drain;
use crate::limits::Limits;
use crate::shapes::Shape;

/// One wish.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[expect(clippy::struct_field_names, reason = "the result files say `target`")]
pub(crate) struct Target {
    pub(crate) name: String,
    /// The wish in words, and what it is in this run.
    pub(crate) target: String,
    pub(crate) value: f64,
    pub(crate) unit: &'static str,
    pub(crate) reached: bool,
}

/// Which side of the limit is good.
#[derive(Debug, Clone, Copy)]
enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

impl Target {
    fn new(name: &str, bound: Bound, rule: &str, value: f64, unit: &'static str) -> Self {
        let (sign, limit, reached) = match bound {
            Bound::AtMost(limit) => ("≤", limit, value <= limit),
            Bound::AtLeast(limit) => ("≥", limit, value >= limit),
        };
        let rule = if rule.is_empty() {
            String::new()
        } else {
            format!(" ({rule})")
        };
        Self {
            name: name.to_owned(),
            target: format!("{sign} {}{rule}", number(limit)),
            value,
            unit,
            reached,
        }
    }
}

/// Those whose figures were measured.
pub(crate) fn judge(figures: &Figures, limits: &Limits) -> Vec<Target> {
    let mut targets = of_latency(figures, limits.commit_ms());
    targets.extend(of_creation(figures, limits));
    targets.extend(of_drains(figures, limits));
    targets.extend(of_growth(figures));
    targets.push(Target::new(
        "idle worker",
        Bound::AtMost(1.0),
        "",
        figures.idle_worker_transactions_per_second,
        "transactions/s",
    ));
    targets
}

fn of_latency(figures: &Figures, c: f64) -> Vec<Target> {
    let mut targets = Vec::new();
    if let Some(lone) = figures.latency_of(Shape::Linear.name()) {
        let (p50, p99) = (lone.complete.p50_ms, lone.complete.p99_ms);
        targets.push(Target::new(
            "lone linear 4, p50",
            Bound::AtMost(7.0 * c + 2.0),
            "7 c + 2 ms",
            p50,
            "ms",
        ));
        targets.push(Target::new(
            "lone linear 4, p99",
            Bound::AtMost(4.0 * p50),
            "4 × its p50",
            p99,
            "ms",
        ));
    }
    if let Some(lone) = figures.latency_of(Shape::Noop.name()) {
        targets.push(Target::new(
            "wake-up of an idle worker, p50",
            Bound::AtMost(2.0 * c + 1.0),
            "2 c + 1 ms",
            lone.wake_up.p50_ms,
            "ms",
        ));
    }
    targets
}

fn of_creation(figures: &Figures, limits: &Limits) -> Vec<Target> {
    let bulk = figures
        .drains
        .iter()
        .map(|drain| drain.created_steps_per_second)
        .fold(0.0, f64::max);
    vec![
        Target::new(
            "REST adds",
            Bound::AtMost(1.0),
            "",
            figures.creation.rest_adds_ms,
            "ms",
        ),
        Target::new(
            "create_task of 4 steps, p50",
            Bound::AtMost(3.0 * limits.commit_ms()),
            "3 c",
            figures.creation.sql.p50_ms,
            "ms",
        ),
        Target::new(
            "creation in bulk",
            Bound::AtLeast(5.0 * limits.commits_per_second_of_8()),
            "5 × C8",
            bulk,
            "steps/s",
        ),
    ]
}

fn of_drains(figures: &Figures, limits: &Limits) -> Vec<Target> {
    let best = figures.best_drain();
    let highest = |cost: fn(&Drain) -> f64| figures.drains.iter().map(cost).fold(0.0_f64, f64::max);
    vec![
        Target::new(
            "drain of linear 4, best",
            Bound::AtLeast(limits.commits_per_second_of_8()),
            "1.0 × C8",
            best.steps_per_second,
            "steps/s",
        ),
        Target::new(
            "WAL, highest of the drains",
            Bound::AtMost(1_500.0),
            "",
            highest(|drain| drain.per_step.wal_bytes),
            "bytes/step",
        ),
        Target::new(
            "tuples written, highest of the drains",
            Bound::AtMost(9.0),
            "",
            highest(|drain| drain.per_step.tuples_written),
            "tuples/step",
        ),
        Target::new(
            "fan-out 1,000 against independent steps",
            Bound::AtLeast(0.8),
            "",
            figures.fan_out.steps_per_second / figures.independent.steps_per_second,
            "×",
        ),
    ]
}

/// That nothing grows: not with what is in the tables, not with a task's size, not with the length of a run.
fn of_growth(figures: &Figures) -> Vec<Target> {
    let flat = figures.flat.iter().map(|flat| {
        let name = format!("flat: {}", flat.condition);
        Target::new(&name, Bound::AtLeast(0.9), "", flat.ratio, "×")
    });
    let mut targets: Vec<_> = flat.collect();
    if let Some(held) = figures.flat.iter().find(|flat| flat.is_snapshot) {
        let name = format!("processor time of a step, {}", held.condition);
        let times = held.processor_ratio;
        targets.push(Target::new(&name, Bound::AtMost(1.1), "", times, "×"));
    }
    if let (Some(growth), Some(largest)) = (figures.growth(), figures.one_task.last()) {
        let steps = number(largest.steps as f64);
        let name = format!("steps/s of one task, {steps} steps against the smallest");
        targets.push(Target::new(&name, Bound::AtLeast(0.8), "", growth, "×"));
    }
    if let (Some(growth), Some(largest)) = (figures.growth_of_maps(), figures.one_map.last()) {
        let elements = number(largest.elements as f64);
        let name = format!("µs an element of a map, {elements} elements against the fewest");
        targets.push(Target::new(&name, Bound::AtMost(1.25), "", growth, "×"));
    }
    if let Some(sustained) = figures.sustained.first() {
        let name = "worker's memory, end of a run against its first tenth";
        let growth = sustained.memory_growth();
        targets.push(Target::new(name, Bound::AtMost(1.1), "", growth, "×"));
    }
    targets
}

/// With three digits that say something, and thousands set apart.
pub(crate) fn number(value: f64) -> String {
    if value.abs() >= 1_000.0 {
        let digits = format!("{:.0}", value.abs());
        let mut text = String::new();
        for (place, digit) in digits.chars().enumerate() {
            if place > 0 && (digits.len() - place).is_multiple_of(3) {
                text.push(',');
            }
            text.push(digit);
        }
        return if value < 0.0 {
            format!("-{text}")
        } else {
            text
        };
    }
    let decimals = match value.abs() {
        large if large >= 100.0 => 0,
        middle if middle >= 10.0 => 1,
        _ => 2,
    };
    format!("{value:.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_three_digits_and_set_thousands_apart() {
        let texts = [0.123_4, 12.34, 123.4, 1_234.5, 12_345_678.0, -1_500.0].map(number);
        assert_eq!(
            texts,
            ["0.12", "12.3", "123", "1,234", "12,345,678", "-1,500"]
        );
    }

    #[test]
    fn a_target_is_reached_on_the_good_side_of_its_limit_and_on_the_limit() {
        let at_most = |value| Target::new("x", Bound::AtMost(2.0), "", value, "ms").reached;
        let at_least = |value| Target::new("x", Bound::AtLeast(2.0), "", value, "ms").reached;
        assert_eq!(
            [at_most(1.0), at_most(2.0), at_most(3.0)],
            [true, true, false]
        );
        assert_eq!(
            [at_least(1.0), at_least(2.0), at_least(3.0)],
            [false, true, true]
        );
    }
}
