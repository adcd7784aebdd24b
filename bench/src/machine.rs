//! What the operating system tells: how busy the machine is, how much memory a process holds.

use std::time::Duration;

use anyhow::Context;
use serde::Serialize;

const LOOKED_AT_FOR: Duration = Duration::from_secs(2);

/// How busy the machine is while the benchmark itself does nothing.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Others {
    /// The share of all cores' time that was spent on something, 0 to 1.
    pub(crate) busy_share: f64,
    /// The share that another machine took from this one.
    pub(crate) stolen_share: f64,
    /// The system's load average of the last minute.
    pub(crate) load_average: f64,
}

impl Others {
    /// Looks for two seconds.
    pub(crate) async fn look() -> anyhow::Result<Self> {
        let before = Ticks::read()?;
        tokio::time::sleep(LOOKED_AT_FOR).await;
        let spent = Ticks::read()?.since(before);
        Ok(Self {
            busy_share: spent.busy / spent.all,
            stolen_share: spent.stolen / spent.all,
            load_average: load_average()?,
        })
    }
}

/// The first line of `/proc/stat`, summed up.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Ticks {
    all: f64,
    busy: f64,
    stolen: f64,
}

impl Ticks {
    fn read() -> anyhow::Result<Self> {
        let text = std::fs::read_to_string("/proc/stat").context("can't read /proc/stat")?;
        Self::parse(&text).context("/proc/stat begins with no sum of all cores")
    }

    /// `cpu user nice system idle iowait irq softirq steal …`
    fn parse(text: &str) -> Option<Self> {
        let mut words = text.lines().next()?.split_whitespace();
        if words.next() != Some("cpu") {
            return None;
        }
        let ticks: Vec<f64> = words.take(8).filter_map(|word| word.parse().ok()).collect();
        let all = ticks.iter().sum();
        Some(Self {
            all,
            busy: all - ticks.get(3)? - ticks.get(4)?,
            stolen: *ticks.get(7)?,
        })
    }

    fn since(self, before: Self) -> Self {
        Self {
            all: (self.all - before.all).max(1.0),
            busy: self.busy - before.busy,
            stolen: self.stolen - before.stolen,
        }
    }
}

fn load_average() -> anyhow::Result<f64> {
    let text = std::fs::read_to_string("/proc/loadavg").context("can't read /proc/loadavg")?;
    let first = text.split_whitespace().next().unwrap_or_default();
    first.parse().context("/proc/loadavg begins with no number")
}

/// How much memory a process holds.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Memory {
    /// Now.
    pub(crate) resident_mb: f64,
    /// The most since it started.
    pub(crate) peak_mb: f64,
}

impl Memory {
    pub(crate) fn of(process: u32) -> anyhow::Result<Self> {
        let path = format!("/proc/{process}/status");
        let text = std::fs::read_to_string(&path).with_context(|| format!("can't read {path}"))?;
        let megabytes = |name: &str| {
            field_kb(&text, name)
                .map(|kb| kb / 1024.0)
                .with_context(|| format!("{path} has no {name}"))
        };
        Ok(Self {
            resident_mb: megabytes("VmRSS:")?,
            peak_mb: megabytes("VmHWM:")?,
        })
    }
}

fn field_kb(status: &str, name: &str) -> Option<f64> {
    let line = status.lines().find(|line| line.starts_with(name))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn busy_is_all_but_idle_and_waiting() {
        let ticks = Ticks::parse("cpu  10 0 5 70 10 1 1 3 0 0\ncpu0 1 1 1 1 1 1 1 1 0 0\n");
        let expected = Ticks {
            all: 100.0,
            busy: 20.0,
            stolen: 3.0,
        };
        assert_eq!(ticks, Some(expected));
    }

    #[test]
    fn memory_is_read_from_the_line_of_its_name() {
        assert_eq!(
            field_kb(
                "Name:\tx\nVmHWM:\t    2048 kB\nVmRSS:\t 1024 kB\n",
                "VmRSS:"
            ),
            Some(1024.0)
        );
    }
}
