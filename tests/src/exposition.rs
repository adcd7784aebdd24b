//! Prometheus's text format, read strictly: what its own tools complain of, and more.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, bail, ensure};

/// What was exposed.
#[derive(Debug, Default)]
pub struct Exposition {
    /// The type of each family.
    pub families: BTreeMap<String, String>,
    /// The value of each series, by its name and its labels as they are written: `name{a="b"}`.
    pub series: BTreeMap<String, f64>,
}

impl Exposition {
    /// Reads what was exposed, and refuses what isn't as it should be.
    pub fn read(text: &str) -> anyhow::Result<Self> {
        ensure!(text.ends_with('\n'), "the last line has no end");
        let mut read = Self::default();
        let mut helped = BTreeSet::new();
        let mut family = String::new();
        for line in text.lines() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, words) = help.split_once(' ').context("a help without words")?;
                ensure!(!words.trim().is_empty(), "{name} has no help");
                ensure!(helped.insert(name.to_owned()), "{name} has two helps");
            } else if let Some(kind) = line.strip_prefix("# TYPE ") {
                let (name, kind) = kind.split_once(' ').context("a type without a word")?;
                ensure!(helped.contains(name), "{name} has no help");
                check_name(name, kind)?;
                let before = read.families.insert(name.to_owned(), kind.to_owned());
                ensure!(before.is_none(), "{name} has two types");
                name.clone_into(&mut family);
            } else {
                read.sample(line, &family)
                    .with_context(|| line.to_owned())?;
            }
        }
        for (name, kind) in &read.families {
            if kind == "histogram" {
                read.check_histogram(name)?;
            }
        }
        Ok(read)
    }

    /// The value of a series.
    pub fn value(&self, series: &str) -> anyhow::Result<f64> {
        self.series
            .get(series)
            .copied()
            .with_context(|| format!("there is no {series}"))
    }

    /// Whether a name is that of a family, or of what a histogram is made of.
    #[must_use]
    pub fn knows(&self, name: &str) -> bool {
        let base = ["_bucket", "_sum", "_count"]
            .iter()
            .find_map(|end| name.strip_suffix(end));
        self.families.contains_key(name)
            || base.is_some_and(|base| {
                self.families
                    .get(base)
                    .is_some_and(|kind| kind == "histogram")
            })
    }

    fn sample(&mut self, line: &str, family: &str) -> anyhow::Result<()> {
        let (series, value) = line.rsplit_once(' ').context("no value")?;
        let value: f64 = value.parse()?;
        let (name, labels) = match series.split_once('{') {
            None => (series, ""),
            Some((name, labels)) => (name, labels.strip_suffix('}').context("no brace")?),
        };
        let kind = self.families.get(family).context("no type before it")?;
        let belongs = match kind.as_str() {
            "histogram" => ["_bucket", "_sum", "_count"]
                .iter()
                .any(|end| name == format!("{family}{end}")),
            _ => name == family,
        };
        ensure!(belongs, "it isn't of {family}");
        ensure!(kind != "counter" || value >= 0.0, "a counter below zero");
        check_labels(labels)?;
        let before = self.series.insert(series.to_owned(), value);
        ensure!(before.is_none(), "it is there twice");
        Ok(())
    }

    fn check_histogram(&self, name: &str) -> anyhow::Result<()> {
        let bucket = format!("{name}_bucket{{");
        let mut last: BTreeMap<String, (f64, f64)> = BTreeMap::new();
        let mut buckets: Vec<(String, f64, f64)> = Vec::new();
        for (series, count) in self.series.range(bucket.clone()..) {
            let Some(labels) = series.strip_prefix(&bucket) else {
                break;
            };
            let (others, bound) = labels.split_once("le=\"").context("no le")?;
            let bound = bound.trim_end_matches("\"}");
            let bound = if bound == "+Inf" {
                f64::INFINITY
            } else {
                bound.parse()?
            };
            buckets.push((others.trim_end_matches(',').to_owned(), bound, *count));
        }
        buckets.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));
        for (labels, bound, count) in buckets {
            if let Some((_, before)) = last.get(&labels) {
                ensure!(
                    count >= *before,
                    "{name}: a bucket has less than one below it"
                );
            }
            last.insert(labels, (bound, count));
        }
        ensure!(!last.is_empty(), "{name} has no buckets");
        for (labels, (bound, count)) in last {
            ensure!(bound.is_infinite(), "{name} has no bucket for all");
            let total = self.value(&format!("{name}_count{{{labels}}}"))?;
            ensure!((total - count).abs() < 0.5, "{name}: {total} isn't {count}");
            self.value(&format!("{name}_sum{{{labels}}}"))?;
        }
        Ok(())
    }
}

fn check_name(name: &str, kind: &str) -> anyhow::Result<()> {
    let is_plain = name
        .bytes()
        .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
    ensure!(is_plain && name.starts_with("tasker_"), "{name} is no name");
    ensure!(
        name.ends_with("_total") == (kind == "counter"),
        "{name} is a {kind}"
    );
    for abbreviated in [
        "_ms",
        "_millis",
        "_milliseconds",
        "_secs",
        "_mb",
        "_minutes",
    ] {
        ensure!(
            !name.contains(abbreviated),
            "{name}: seconds and bytes only"
        );
    }
    match kind {
        "counter" | "gauge" => {}
        "histogram" => ensure!(name.ends_with("_seconds"), "{name} has no unit"),
        other => bail!("{name} is a {other}"),
    }
    Ok(())
}

fn check_labels(labels: &str) -> anyhow::Result<()> {
    let mut names = BTreeSet::new();
    let mut rest = labels;
    while !rest.is_empty() {
        let (name, after) = rest.split_once("=\"").context("a label without a value")?;
        ensure!(
            name.bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte == b'_'),
            "{name} is no label"
        );
        ensure!(names.insert(name.to_owned()), "{name} is there twice");
        let mut is_escaped = false;
        let end = after
            .char_indices()
            .find_map(|(place, c)| match (is_escaped, c) {
                (false, '"') => Some(place),
                (false, '\\') => {
                    is_escaped = true;
                    None
                }
                _ => {
                    is_escaped = false;
                    None
                }
            })
            .context("a value without an end")?;
        rest = after[end + 1..].trim_start_matches(',');
    }
    Ok(())
}
