//! The charts: latency by shape, throughput by connections.

use super::Report;
use super::svg::{Anchor, Drawing};
use super::targets::number;
use crate::distribution::median;

const LEFT: f64 = 190.0;
const PLOT: f64 = 520.0;
const RIGHT: f64 = 90.0;
const TOP: f64 = 56.0;
const BAR: f64 = 14.0;
const GROUP_GAP: f64 = 14.0;
const COLOURS: [&str; 3] = ["#2a6f97", "#61a5c2", "#f4a261"];

/// How a value becomes a length.
#[derive(Debug, Clone, Copy)]
enum Scale {
    Linear { most: f64 },
    Logarithmic { least: f64, most: f64 },
}

impl Scale {
    /// From nothing to the highest of the values.
    fn up_to_the_highest(groups: &[(String, Vec<f64>)]) -> Self {
        let values = groups.iter().flat_map(|(_, values)| values.iter().copied());
        Self::Linear {
            most: values.fold(1.0, f64::max),
        }
    }

    /// The length of a bar as a share of the plot.
    fn share(self, value: f64) -> f64 {
        let share = match self {
            Self::Linear { most } => value / most,
            Self::Logarithmic { least, most } => (value / least).ln() / (most / least).ln(),
        };
        share.clamp(0.0, 1.0)
    }

    /// Where lines are drawn.
    fn marks(self) -> Vec<f64> {
        match self {
            Self::Linear { most } => (1..=4)
                .map(|quarter| most * f64::from(quarter) / 4.0)
                .collect(),
            Self::Logarithmic { least, most } => {
                std::iter::successors(Some(least), |mark| Some(mark * 10.0))
                    .take_while(|mark| *mark <= most * 1.001)
                    .collect()
            }
        }
    }
}

/// Bars in groups.
#[derive(Debug)]
struct Chart<'a> {
    title: String,
    series: &'a [&'a str],
    scale: Scale,
    /// Each with a name and a value for each of the series.
    groups: Vec<(String, Vec<f64>)>,
}

impl Chart<'_> {
    fn draw(&self) -> String {
        let group_height = BAR * self.series.len() as f64 + GROUP_GAP;
        let bottom = TOP + group_height * self.groups.len() as f64;
        let mut drawing = Drawing::new(LEFT + PLOT + RIGHT, bottom + 30.0);
        drawing.text((12.0, 20.0), Anchor::Start, &self.title);
        for (number, name) in self.series.iter().enumerate() {
            let x = LEFT + number as f64 * 190.0;
            drawing.bar((x, 30.0), (10.0, 10.0), colour(number));
            drawing.text((x + 15.0, 40.0), Anchor::Start, name);
        }
        for mark in self.scale.marks() {
            let x = LEFT + PLOT * self.scale.share(mark);
            drawing.line((x, TOP - 6.0), (x, bottom));
            drawing.text((x, bottom + 16.0), Anchor::Middle, &number(mark));
        }
        for (place, (name, values)) in self.groups.iter().enumerate() {
            let top = TOP + group_height * place as f64;
            drawing.text((LEFT - 10.0, top + BAR), Anchor::End, name);
            for (number_of_series, value) in values.iter().enumerate() {
                let y = top + BAR * number_of_series as f64;
                let width = (PLOT * self.scale.share(*value)).max(1.0);
                drawing.bar((LEFT, y), (width, BAR - 2.0), colour(number_of_series));
                let end = (LEFT + width + 4.0, y + BAR - 3.0);
                drawing.text(end, Anchor::Start, &number(*value));
            }
        }
        drawing.finish()
    }
}

fn colour(series: usize) -> &'static str {
    COLOURS[series % COLOURS.len()]
}

/// One task at a time, by shape; then at half load.
pub(crate) fn latency(report: &Report) -> String {
    let figures = &report.figures;
    let alone = figures
        .latency
        .iter()
        .map(|lone| (lone.shape.to_owned(), lone.complete));
    let half = figures
        .half_load
        .iter()
        .map(|half| (format!("{}, half load", half.shape), half.complete));
    let groups: Vec<_> = alone
        .chain(half)
        .map(|(name, spread)| (name, vec![spread.p50_ms, spread.p95_ms, spread.p99_ms]))
        .collect();
    let values = || groups.iter().flat_map(|(_, values)| values.iter().copied());
    let least = values().fold(f64::MAX, f64::min);
    let most = values().fold(1.0, f64::max);
    Chart {
        title: format!(
            "Milliseconds from create to complete, one task at a time and at half load (log scale; a one-row commit: {} ms)",
            number(report.limits.commit_ms())
        ),
        series: &["p50", "p95", "p99"],
        scale: Scale::Logarithmic {
            least: power_of_ten_below(least),
            most: power_of_ten_below(most) * 10.0,
        },
        groups,
    }
    .draw()
}

/// Steps a second beside one-row commits a second.
pub(crate) fn throughput(report: &Report) -> String {
    let groups: Vec<_> = report
        .figures
        .drains
        .iter()
        .zip(&report.limits.commits)
        .map(|(drain, commits)| {
            let name = format!("{} connections", drain.connections);
            (name, vec![drain.steps_per_second, commits.per_second])
        })
        .collect();
    Chart {
        title: "A second: steps of linear 4 drained from a backlog, and one-row commits".to_owned(),
        series: &["steps drained", "one-row commits"],
        scale: Scale::up_to_the_highest(&groups),
        groups,
    }
    .draw()
}

/// The drain under each condition beside the one in a plain database.
pub(crate) fn flat(report: &Report) -> String {
    let middle = |rates: &[f64]| median(rates.to_vec()).unwrap_or_default();
    let groups: Vec<_> = report
        .figures
        .flat
        .iter()
        .map(|flat| {
            let rates = [&flat.plain_steps_per_second, &flat.steps_per_second];
            let values = rates.map(|rates| middle(rates)).to_vec();
            (flat.condition.clone(), values)
        })
        .collect();
    Chart {
        title:
            "Steps of linear 4 drained a second, by turns in a plain database and under a condition"
                .to_owned(),
        series: &["plain", "under the condition"],
        scale: Scale::up_to_the_highest(&groups),
        groups,
    }
    .draw()
}

fn power_of_ten_below(value: f64) -> f64 {
    10_f64.powf(value.max(1e-3).log10().floor())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_logarithmic_scale_gives_each_power_of_ten_the_same_length() {
        let scale = Scale::Logarithmic {
            least: 1.0,
            most: 1_000.0,
        };
        assert!((scale.share(10.0) - 1.0 / 3.0).abs() < 1e-9);
        assert_eq!(scale.marks().len(), 4);
    }

    #[test]
    fn the_power_of_ten_below_a_value_is_at_most_the_value() {
        assert!((power_of_ten_below(7.3) - 1.0).abs() < 1e-9);
        assert!((power_of_ten_below(0.42) - 0.1).abs() < 1e-9);
        assert!((power_of_ten_below(100.0) - 100.0).abs() < 1e-9);
    }
}
