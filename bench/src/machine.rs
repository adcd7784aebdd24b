//! What the operating system tells: how busy the machine is, how much memory a process holds, how much processor time it has used.

use std::time::Duration;

use anyhow::Context;
use serde::Serialize;

const LOOKED_AT_FOR: Duration = Duration::from_secs(2);
/// `USER_HZ` is 100 on every machine that Linux's `proc(5)` is read on.
const MICROSECONDS_OF_A_TICK: f64 = 10_000.0;

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

/// The processor time that a process and its children have used, those that have ended too, in microseconds. The kernel counts it in hundredths of a second.
pub(crate) fn processor_us(process: u32) -> anyhow::Result<f64> {
    let mut ticks = Used::of(process)?.and_of_ended_children();
    for entry in std::fs::read_dir("/proc").context("can't read /proc")? {
        let name = entry?.file_name();
        let Some(number) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // One that has just ended isn't there any more, and its parent has its time.
        if let Ok(used) = Used::of(number)
            && used.parent == process
        {
            ticks += used.and_of_ended_children();
        }
    }
    Ok(ticks * MICROSECONDS_OF_A_TICK)
}

/// What `/proc/<process>/stat` says of it, in ticks.
#[derive(Debug, PartialEq)]
struct Used {
    parent: u32,
    own: f64,
    of_ended_children: f64,
}

impl Used {
    fn of(process: u32) -> anyhow::Result<Self> {
        let path = format!("/proc/{process}/stat");
        let text = std::fs::read_to_string(&path).with_context(|| format!("can't read {path}"))?;
        Self::parse(&text).with_context(|| format!("{path} has too few fields"))
    }

    /// `pid (name) state ppid …`; the name may contain anything, and user and system time are the 14th and 15th field, those of children the next two.
    fn parse(text: &str) -> Option<Self> {
        let (_, fields) = text.rsplit_once(')')?;
        let fields: Vec<&str> = fields.split_whitespace().collect();
        let ticks = |at: usize| -> Option<f64> { fields.get(at)?.parse().ok() };
        Some(Self {
            parent: fields.get(1)?.parse().ok()?,
            own: ticks(11)? + ticks(12)?,
            of_ended_children: ticks(13)? + ticks(14)?,
        })
    }

    fn and_of_ended_children(&self) -> f64 {
        self.own + self.of_ended_children
    }
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

    #[test]
    fn processor_time_is_read_behind_a_name_with_a_bracket() {
        let used = Used::parse("7 (post) gres) S 3 7 7 0 -1 4 1 1 0 0 20 10 5 2 20 0 1 0");
        let expected = Used {
            parent: 3,
            own: 30.0,
            of_ended_children: 7.0,
        };
        assert_eq!(used, Some(expected));
    }

    #[test]
    fn this_process_has_used_processor_time() {
        let before = processor_us(std::process::id()).unwrap_or(f64::MAX);
        let began = std::time::Instant::now();
        while began.elapsed() < Duration::from_millis(200) {
            std::hint::spin_loop();
        }
        let used = processor_us(std::process::id()).unwrap_or_default() - before;
        assert!(used > 10_000.0, "{used}");
    }
}
