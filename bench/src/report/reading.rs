//! The figures in a few sentences, by ratio: only ratios within one run can be held against another run's.

use super::Figures;
use super::targets::number;
use crate::limits::Limits;
use crate::limits::rabbitmq::RabbitMq;
use crate::machine::Others;
use crate::shapes::Shape;

/// Above this share of the cores' time, others disturbed the run.
const DISTURBED: f64 = 0.15;
/// Runs of pgbench before and after that differ by more than this tell of an unsteady disk.
const STEADY_WITHIN: f64 = 1.3;

/// The sentences.
pub(crate) fn read(figures: &Figures, limits: &Limits, others: [Others; 2]) -> Vec<String> {
    let c = limits.commit_ms();
    let c8 = limits.commits_per_second_of_8();
    let mut lines = Vec::new();
    if let Some(lone) = figures.latency_of(Shape::Linear.name()) {
        lines.push(format!(
            "A lone linear 4 takes as long as {} one-row commits; each of its steps adds about {}.",
            number(lone.complete.p50_ms / c),
            number((lone.complete.p50_ms - lone.wake_up.p50_ms) / 4.0 / c),
        ));
    }
    let best = figures.best_drain();
    lines.push(format!(
        "Its backlog drains best with {} connections: {} steps for each one-row commit that eight clients make, at {} commits a step.",
        best.connections,
        number(best.steps_per_second / c8),
        number(best.per_step.transactions),
    ));
    lines.extend(of_half_load(figures));
    lines.extend(of_growth(figures));
    lines.push(format!(
        "PGMQ alone moves {} messages in hundreds for each step that is drained.",
        number(limits.pgmq.hundreds_messages_per_second / best.steps_per_second),
    ));
    lines.extend(of_queues(limits));
    if others.iter().any(|others| others.busy_share > DISTURBED) {
        lines.push(
            "Others kept the machine busy before or after: take the ratios with care.".to_owned(),
        );
    }
    if limits
        .commits
        .iter()
        .any(|commits| !is_steady(&commits.per_second_of_each))
    {
        lines.push(
            "The disk's speed differed between the beginning and the end of the run: take the ratios with care."
                .to_owned(),
        );
    }
    lines
}

/// Waiting is what half load adds.
fn of_half_load(figures: &Figures) -> Option<String> {
    let half = figures.half_load.first()?;
    let lone = figures.latency_of(half.shape)?;
    Some(format!(
        "At half of what one worker sustains, {} tasks a second, a {} takes {} times as long as alone; one in a hundred takes {} times.",
        number(half.tasks_per_second),
        half.shape,
        number(half.complete.p50_ms / lone.complete.p50_ms),
        number(half.complete.p99_ms / lone.complete.p50_ms),
    ))
}

/// What changes with the size of the tables and of a task.
fn of_growth(figures: &Figures) -> Option<String> {
    let worst = figures.worst_condition()?;
    Some(format!(
        "Of the conditions that spoil plans and tables, \"{}\" costs most: {} of the plain drain's rate is left. A step of the largest task costs {} times one of the smallest.",
        worst.condition,
        number(worst.ratio),
        number(1.0 / figures.growth()?),
    ))
}

/// Where there is a RabbitMQ.
fn of_queues(limits: &Limits) -> Option<String> {
    let RabbitMq::Measured(rabbitmq) = limits.rabbitmq else {
        return None;
    };
    let pgmq = limits.pgmq;
    Some(format!(
        "For each message that RabbitMQ moves, PGMQ moves {} one by one and {} in hundreds.",
        number(pgmq.one_by_one_messages_per_second / rabbitmq.one_by_one_messages_per_second),
        number(pgmq.hundreds_messages_per_second / rabbitmq.hundreds_messages_per_second),
    ))
}

fn is_steady(rates: &[f64]) -> bool {
    let most = rates.iter().copied().fold(0.0, f64::max);
    rates.iter().all(|rate| rate * STEADY_WITHIN >= most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_within_a_third_of_each_other_are_steady() {
        assert!(is_steady(&[100.0, 120.0]));
        assert!(!is_steady(&[100.0, 150.0]));
    }
}
