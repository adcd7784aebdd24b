//! Does the engine stay as fast when its tables are full, its statistics are missing or wrong, or an old snapshot is held? Each condition has a database
//! of its own and a plain one beside it, and backlogs are drained in the two by turns.
//! Not here: how tables are filled (`fill`) and what is done to statistics (`statistics`).

mod fill;
mod ground;
mod statistics;

use std::time::{Duration, Instant};

use anyhow::Context;
use serde::Serialize;
use sqlx::{Connection, Executor, PgConnection};

use crate::distribution::median;
use crate::meter::switch_autovacuum;
use crate::options::Extent;
use crate::report::targets::number;
use crate::stage::Stage;
use ground::{CONNECTIONS, Ground, Round};

/// Backlogs drained in each of the two databases.
const ROUNDS: usize = 3;
/// The same while a snapshot is held: rounds differ by up to two tenths.
const ROUNDS_UNDER_A_SNAPSHOT: usize = 9;
/// Finished steps in tables whose statistics are those of empty ones.
const FINISHED_UNSEEN: usize = 200_000;
/// Steps drained at a time while the snapshot is held, and the rest after each time.
const CHURN: usize = 20_000;
const REST: Duration = Duration::from_secs(10);

/// The drain of linear 4 under one condition, beside the same drain in a plain database.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Flat {
    /// The condition in a few words.
    pub(crate) condition: String,
    /// What was done.
    pub(crate) done: String,
    /// Whether it is that of a held snapshot.
    pub(crate) is_snapshot: bool,
    pub(crate) connections: u32,
    /// Of each backlog.
    pub(crate) steps: usize,
    /// Of each round, in the plain database.
    pub(crate) plain_steps_per_second: Vec<f64>,
    /// Of each round, under the condition.
    pub(crate) steps_per_second: Vec<f64>,
    /// The median of the rounds' ratios.
    pub(crate) ratio: f64,
    /// Microseconds of processor time a step, of all of PostgreSQL's processes, in each round in the plain database.
    pub(crate) plain_processor_us: Vec<f64>,
    /// The same under the condition.
    pub(crate) processor_us: Vec<f64>,
    /// How many times the plain processor time that is; the median of the rounds.
    pub(crate) processor_ratio: f64,
}

/// What is drained in each of the two databases.
#[derive(Clone, Copy)]
struct Backlogs {
    rounds: usize,
    /// Of each.
    steps: usize,
}

impl Backlogs {
    fn usual(extent: Extent) -> Self {
        Self {
            rounds: ROUNDS,
            steps: extent.flat_steps,
        }
    }
}

/// What is different from the plain database.
struct Condition {
    name: String,
    done: String,
}

/// Measures each condition.
pub(crate) async fn conditions(stage: &Stage, extent: Extent) -> anyhow::Result<Vec<Flat>> {
    let mut full = Ground::with_some_finished(stage, "flat_full").await?;
    let full_tables = full_tables(stage, &mut full, extent).await?;
    switch_autovacuum(&mut full.session, false).await?;
    let emptied = emptied(stage, &mut full, extent).await?;
    let without_statistics = without_statistics(stage, extent).await?;
    let analysed_while_empty = analysed_while_empty(stage, extent).await?;
    switch_autovacuum(&mut full.session, true).await?;
    full.end().await?;
    let held_snapshot = held_snapshot(stage, extent).await?;
    Ok(vec![
        full_tables,
        without_statistics,
        analysed_while_empty,
        emptied,
        held_snapshot,
    ])
}

async fn full_tables(stage: &Stage, full: &mut Ground, extent: Extent) -> anyhow::Result<Flat> {
    let finished = count(extent.finished_steps);
    crate::say(&format!("filling in {finished} finished steps"));
    fill::finished_steps(&mut full.session, extent.finished_steps).await?;
    statistics::settle(&mut full.session).await?;
    let condition = Condition {
        name: format!("{finished} finished steps"),
        done: "the rows of a finished task copied, then vacuumed and analysed".to_owned(),
    };
    by_turns(stage, full, condition, Backlogs::usual(extent)).await
}

async fn emptied(stage: &Stage, full: &mut Ground, extent: Extent) -> anyhow::Result<Flat> {
    statistics::empty_the_tables(&mut full.session).await?;
    let condition = Condition {
        name: format!("statistics of {}", count(extent.finished_steps)),
        done: "analysed with so many finished steps, then emptied with the statistics kept; autovacuum off"
            .to_owned(),
    };
    by_turns(stage, full, condition, Backlogs::usual(extent)).await
}

async fn without_statistics(stage: &Stage, extent: Extent) -> anyhow::Result<Flat> {
    let mut ground = Ground::with_some_finished(stage, "flat_no_statistics").await?;
    statistics::forget(&mut ground.session).await?;
    let condition = Condition {
        name: "no statistics".to_owned(),
        done: "as if no table had ever been vacuumed or analysed; autovacuum off".to_owned(),
    };
    let flat = by_turns(stage, &mut ground, condition, Backlogs::usual(extent)).await?;
    ground.end().await?;
    Ok(flat)
}

async fn analysed_while_empty(stage: &Stage, extent: Extent) -> anyhow::Result<Flat> {
    let mut ground = Ground::empty(stage, "flat_analysed_empty").await?;
    statistics::settle(&mut ground.session).await?;
    ground.finish_some().await?;
    fill::finished_steps(&mut ground.session, FINISHED_UNSEEN).await?;
    let condition = Condition {
        name: "statistics of none".to_owned(),
        done: format!(
            "analysed while empty, then {} finished steps filled in; autovacuum off",
            count(FINISHED_UNSEEN)
        ),
    };
    let flat = by_turns(stage, &mut ground, condition, Backlogs::usual(extent)).await?;
    ground.end().await?;
    Ok(flat)
}

/// A snapshot held for long, and through the drains.
pub(crate) async fn held_snapshot(stage: &Stage, extent: Extent) -> anyhow::Result<Flat> {
    let mut ground = Ground::with_some_finished(stage, "flat_snapshot").await?;
    let mut holder = PgConnection::connect(&ground.stage.url()).await?;
    holder
        .execute("begin isolation level repeatable read; select count(*) from tasker.steps")
        .await?;
    let began = Instant::now();
    let mut churned = 0;
    crate::say("holding a snapshot");
    loop {
        ground.drain(CHURN).await?;
        churned += CHURN;
        let left = extent.snapshot_held.saturating_sub(began.elapsed());
        if left.is_zero() {
            break;
        }
        tokio::time::sleep(REST.min(left)).await;
    }
    let condition = Condition {
        name: held_name(extent.snapshot_held, churned),
        done: format!(
            "a repeatable-read transaction that had read stayed open over {} steps in {} s, and through the drains",
            count(churned),
            began.elapsed().as_secs()
        ),
    };
    let backlogs = Backlogs {
        rounds: ROUNDS_UNDER_A_SNAPSHOT,
        steps: extent.snapshot_steps,
    };
    let flat = by_turns(stage, &mut ground, condition, backlogs).await?;
    holder.execute("rollback").await?;
    holder.close().await?;
    ground.end().await?;
    Ok(Flat {
        is_snapshot: true,
        ..flat
    })
}

/// By its time, or when it isn't held for a time, by what happened meanwhile.
fn held_name(held: Duration, churned: usize) -> String {
    if held.is_zero() {
        format!("snapshot held, {} steps", count(churned))
    } else {
        format!("snapshot held {} s", held.as_secs())
    }
}

/// Drains in a plain database and under the condition, one after the other, a few times.
async fn by_turns(
    stage: &Stage,
    ground: &mut Ground,
    condition: Condition,
    backlogs: Backlogs,
) -> anyhow::Result<Flat> {
    crate::say(&format!("flat: {}", condition.name));
    let mut plain = Ground::with_some_finished(stage, "flat_plain").await?;
    plain.open_sessions().await?;
    ground.open_sessions().await?;
    let (mut of_plain, mut of_condition) = (Vec::new(), Vec::new());
    for round in 0..backlogs.rounds {
        // Who comes first takes turns too: a machine that slows down or speeds up meets both alike.
        let plain_first = round % 2 == 0;
        if plain_first {
            of_plain.push(plain.round(backlogs.steps).await?);
        }
        of_condition.push(ground.round(backlogs.steps).await?);
        if !plain_first {
            of_plain.push(plain.round(backlogs.steps).await?);
        }
        if let (Some(plain), Some(under)) = (of_plain.last(), of_condition.last()) {
            crate::say(&in_words(*plain, *under));
        }
    }
    ground.close_sessions().await;
    plain.close_sessions().await;
    plain.end().await?;
    let rates = |rounds: &[Round]| each(rounds, |round| round.steps_per_second);
    let processor = |rounds: &[Round]| each(rounds, |round| round.processor_us);
    Ok(Flat {
        condition: condition.name,
        done: condition.done,
        is_snapshot: false,
        connections: CONNECTIONS,
        steps: backlogs.steps,
        ratio: ratio(&rates(&of_condition), &rates(&of_plain)).context("no rounds")?,
        plain_steps_per_second: rates(&of_plain),
        steps_per_second: rates(&of_condition),
        processor_ratio: ratio(&processor(&of_condition), &processor(&of_plain))
            .context("no rounds")?,
        plain_processor_us: processor(&of_plain),
        processor_us: processor(&of_condition),
    })
}

fn each(rounds: &[Round], figure: impl Fn(&Round) -> f64) -> Vec<f64> {
    rounds.iter().map(figure).collect()
}

/// One round, as it is said while the others follow.
fn in_words(plain: Round, under: Round) -> String {
    format!(
        "{} steps/s beside {}, {} µs of processor time a step beside {}",
        number(under.steps_per_second),
        number(plain.steps_per_second),
        number(under.processor_us),
        number(plain.processor_us),
    )
}

/// Of each round, what is under the condition by what is without it; the median of that.
fn ratio(under: &[f64], without: &[f64]) -> Option<f64> {
    median(under.iter().zip(without).map(|(a, b)| a / b).collect())
}

fn count(number_of: usize) -> String {
    number(number_of as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ratio_is_the_median_of_the_rounds() {
        let ratio = ratio(&[9.0, 5.0, 8.0], &[10.0, 10.0, 10.0]);
        assert_eq!(ratio, Some(0.8));
    }

    #[test]
    fn a_snapshot_is_named_by_how_long_it_was_held() {
        assert_eq!(held_name(Duration::from_mins(10), 1), "snapshot held 600 s");
        assert_eq!(
            held_name(Duration::ZERO, 20_000),
            "snapshot held, 20,000 steps"
        );
    }
}
