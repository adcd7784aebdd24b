//! Statistics as they are read: against what the histories say from first principles, rounded to their buckets, of a namespace or a template.

#![allow(
    clippy::cast_precision_loss,
    reason = "the numbers of runs and milliseconds are small"
)]

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tasker_tests::figures::{Figures, drain};
use tasker_tests::scenario::refusal;

const TEMPLATES: [&str; 3] = [
    "{name: chain, version: 1.0.0, lifecycle: {on_failure: block}, steps: [
       {name: a, handler: {callable: t.a}, retry: {max_attempts: 2, backoff: none}},
       {name: b, handler: {callable: t.b}, dependencies: [a]}]}",
    "{name: fan, namespace: shop, version: 1.0.0, steps: [{name: a, handler: {callable: t.a}}, {name: b, handler: {callable: t.b}},
       {name: c, handler: {callable: t.c}, dependencies: [a, b], retry: {max_attempts: 2, backoff: none}}]}",
    "{name: resting, version: 1.0.0, lifecycle: {evaluation: deferred}, steps: [{name: a, handler: {callable: t.a}, retry: {retryable: false}}]}",
];

/// Numbers that look random and are the same in every run (Knuth's MMIX generator).
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

/// A mix of everything that ends or begins an attempt.
async fn mix(figures: &mut Figures, turns: usize) -> anyhow::Result<()> {
    let mut chance = Chance(7);
    let mut held: Vec<Value> = Vec::new();
    for _ in 0..turns {
        figures
            .goes_on(chance.below(4000) as f64 / 1000.0 + 0.001)
            .await?;
        match chance.below(12) {
            0 => figures.run("select tasker.create_task('chain'), tasker.create_task('fan', 'shop'), tasker.create_task('resting')").await?,
            1..=4 => {
                let claimed = figures.rows("select step_uuid, attempt from tasker.claim_steps('w', '{default,shop}', 3, '20 seconds')").await?;
                held.extend(claimed);
            }
            5 => figures.run("select tasker.run_maintenance()").await?,
            6 if chance.below(3) == 0 => {
                figures
                    .run("select tasker.cancel_task(t.task_uuid) from (select task_uuid from tasker.tasks where finished_at is null order by task_uuid limit 1) t")
                    .await?;
            }
            7 if chance.below(3) == 0 => {
                figures
                    .run("select tasker.reset_step(s.step_uuid) from (select step_uuid from tasker.steps where state = 'error' and (select state <> 'cancelled' from tasker.get_task(tasker._task_of(step_uuid))) order by step_uuid limit 1) s")
                    .await?;
            }
            _ if held.is_empty() => {}
            _ => {
                let mut step = held.swap_remove(chance.below(held.len() as u64) as usize);
                let outcome = match chance.below(8) {
                    0 => json!({"status": "release"}),
                    1 | 2 => json!({"status": "fail", "error": {"message": "no", "retryable": chance.below(3) > 0}}),
                    _ => json!({"status": "complete", "result": 1}),
                };
                for (name, value) in outcome.as_object().into_iter().flatten() {
                    step[name] = value.clone();
                }
                figures
                    .run(&format!("select * from tasker.finish_steps('w', '[{step}]')"))
                    .await?;
            }
        }
    }
    Ok(())
}

/// What a histories' reader counts of one step of a template, or of its tasks.
#[derive(Debug, Default)]
struct Counted {
    counts: BTreeMap<&'static str, i64>,
    runs_ms: Vec<f64>,
    waits_ms: Vec<f64>,
}

impl Counted {
    fn add(&mut self, name: &'static str) {
        *self.counts.entry(name).or_default() += 1;
    }
}

fn ended_as(state: &str) -> Option<&'static str> {
    match state {
        "complete" => Some("completed"),
        "error" => Some("failed"),
        "cancelled" => Some("cancelled"),
        "resolved_manually" => Some("resolved"),
        _ => None,
    }
}

/// Walks the unrolled histories of all steps and tasks, event by event.
async fn from_first_principles(
    figures: &mut Figures,
) -> anyhow::Result<BTreeMap<(String, String), Counted>> {
    let columns = "h.from_state, h.to_state, h.event, extract(epoch from h.at) * 1000 as ms";
    let events = figures
        .rows(&format!(
            "select x.name as template, s.name as step, s.step_uuid as key, h.seq, {columns}
             from tasker.tasks t join tasker.templates x using (template_id), tasker.list_steps(t.task_uuid) s, tasker.step_history(s.step_uuid) h
             union all
             select x.name, '-', t.task_uuid, h.seq, {columns} from tasker.tasks t join tasker.templates x using (template_id), tasker.task_history(t.task_uuid) h
             order by 3, 4"
        ))
        .await?;
    let mut all: BTreeMap<(String, String), Counted> = BTreeMap::new();
    let (mut key, mut since, mut begun, mut by_retry) = (String::new(), None, None, false);
    for event in &events {
        let text = |name: &str| event[name].as_str().unwrap_or_default();
        let ms = event["ms"].as_f64().unwrap_or_default();
        let counted = all
            .entry((text("template").to_owned(), text("step").to_owned()))
            .or_default();
        if text("key") != key {
            text("key").clone_into(&mut key);
            (since, begun) = (None, None);
        }
        let is_task = text("step") == "-";
        match text("event") {
            "start" if is_task => begun = begun.or(Some(ms)),
            "start" => {
                counted.add("attempts");
                // Enqueued by a retry that was due, and claimed in the same moment: that is no wait.
                counted.waits_ms.extend(
                    since
                        .map(|since| ms - since)
                        .filter(|&wait| wait > 0.0 || !by_retry),
                );
                begun = Some(ms);
            }
            "enqueue_for_orchestration" | "enqueue_as_error_for_orchestration" => {
                counted.runs_ms.extend(begun.map(|begun| ms - begun));
            }
            "wait_for_retry" => counted.add("retries"),
            _ => {}
        }
        since = Some(ms).filter(|_| text("to_state") == "enqueued");
        by_retry = text("event") == "retry";
        if let Some(end) = ended_as(text("to_state")) {
            counted.add(end);
            let is_over = ended_as(text("from_state")).is_none();
            if is_task && is_over {
                counted.runs_ms.extend(begun.map(|begun| ms - begun));
            }
        }
    }
    Ok(all)
}

fn average(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// The percentile by nearest rank.
fn percentile(values: &mut [f64], share: f64) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let place = (values.len() as f64 * share).ceil() as usize;
    values.get(place.checked_sub(1)?).copied()
}

fn is_near(told: &Value, expected: Option<f64>, share: f64) -> bool {
    match (told.as_f64(), expected) {
        (Some(told), Some(expected)) => (told - expected).abs() <= expected * share + 0.002,
        (told, expected) => told.is_none() && expected.is_none(),
    }
}

#[tokio::test]
async fn the_figures_are_those_that_the_histories_say() -> anyhow::Result<()> {
    let mut figures = Figures::new(&TEMPLATES).await?;
    mix(&mut figures, 1500).await?;
    figures.folded().await?;
    let mut expected = from_first_principles(&mut figures).await?;
    let told = figures
        .rows("select * from tasker.statistics(tasker._now() - interval '2 hours')")
        .await?;
    assert_eq!(told.len(), 9, "{told:#?}");
    for row in &told {
        let step = row["step_name"].as_str().unwrap_or("-");
        let template = row["template_name"].as_str().unwrap_or_default();
        let counted = expected
            .get_mut(&(template.to_owned(), step.to_owned()))
            .unwrap_or_else(|| panic!("no {template} {step}"));
        for name in ["completed", "failed", "cancelled", "resolved"] {
            let count = counted.counts.get(name).copied().unwrap_or_default();
            assert_eq!(row[name], count, "{name} of {template} {step}");
        }
        for name in ["attempts", "retries"] {
            let count = counted.counts.get(name).copied().unwrap_or_default();
            let count = if step == "-" {
                Value::Null
            } else {
                json!(count)
            };
            assert_eq!(row[name], count, "{name} of {template} {step}");
        }
        let runs = &mut counted.runs_ms;
        assert!(runs.len() > 3, "{template} {step} ran {} times", runs.len());
        for (name, value, share) in [
            ("avg_run_ms", average(runs), 1e-6),
            ("p50_run_ms", percentile(runs, 0.5), 0.1),
            ("p95_run_ms", percentile(runs, 0.95), 0.1),
            ("p99_run_ms", percentile(runs, 0.99), 0.1),
            ("max_run_ms", percentile(runs, 1.0), 1e-6),
            ("avg_wait_ms", average(&counted.waits_ms), 1e-6),
        ] {
            assert!(
                is_near(&row[name], value, share),
                "{name} of {template} {step} is {}, not {value:?}",
                row[name]
            );
        }
    }
    let failed = told[1]["failed"].as_f64().unwrap_or_default();
    let ended = failed + told[1]["completed"].as_f64().unwrap_or_default();
    assert!(failed > 0.0 && is_near(&told[1]["failure_share"], Some(failed / ended), 1e-9));
    figures.hold().await
}

#[tokio::test]
async fn a_namespace_or_a_template_has_its_own_figures_and_slowest() -> anyhow::Result<()> {
    let mut figures = Figures::new(&TEMPLATES).await?;
    figures
        .run("select tasker.create_task('chain'), tasker.create_task('fan', 'shop')")
        .await?;
    for _ in 0..2 {
        let held = figures.rows("select step_uuid, attempt, 'complete' as status, 1 as result from tasker.claim_steps('w', '{default,shop}', 10)").await?;
        figures
            .goes_on(if held.len() == 3 { 2.0 } else { 5.0 })
            .await?;
        figures
            .run(&format!(
                "select * from tasker.finish_steps('w', '{}')",
                json!(held)
            ))
            .await?;
    }
    figures.folded().await?;
    for (filter, templates) in [
        ("", vec!["chain", "fan"]),
        ("namespace => 'shop'", vec!["fan"]),
        ("template_name => 'chain'", vec!["chain"]),
        ("namespace => 'shop', template_name => 'chain'", vec![]),
        ("namespace => 'nowhere'", vec![]),
    ] {
        for function in ["statistics", "slowest_steps", "slowest_tasks"] {
            let rows = figures
                .rows(&format!(
                    "select distinct template_name from tasker.{function}({filter}) order by 1"
                ))
                .await?;
            assert_eq!(
                rows,
                templates
                    .iter()
                    .map(|name| json!({"template_name": name}))
                    .collect::<Vec<_>>(),
                "{function}({filter})"
            );
        }
    }
    let steps = figures
        .rows("select name, template_name, duration_ms, attempts_used, state, task_uuid = tasker._task_of(step_uuid) as is_its, finished_at - started_at as took from tasker.slowest_steps()")
        .await?;
    assert_eq!(steps.len(), 5);
    let expected = json!({"name": "b", "template_name": "chain", "duration_ms": 5000, "attempts_used": 1, "state": "complete", "is_its": true, "took": "00:00:05"});
    assert!(steps[..2].contains(&expected), "{steps:#?}");
    assert_eq!(steps[4]["duration_ms"], 2000);
    let tasks = figures
        .rows("select duration_ms, state, finished_at - started_at as took from tasker.slowest_tasks(\"limit\" => 1)")
        .await?;
    assert_eq!(
        tasks,
        [json!({"duration_ms": 7000, "state": "complete", "took": "00:00:07"})]
    );
    for limit in ["0", "21", "null"] {
        let sql = format!("select * from tasker.slowest_tasks(\"limit\" => {limit})");
        let error = sqlx::query(&sql).execute(&mut figures.session).await;
        let refused = refusal(&error.expect_err("refused"))?;
        assert_eq!(
            (refused.code.as_str(), refused.message.contains("1 and 20")),
            ("22023", true),
            "{limit}"
        );
    }
    figures.hold().await
}

/// The sums over everything, which rolling up may not change.
const SUMS: &str = "select count(distinct starts_at) as spans, sum(completed) as completed, sum(attempts) as attempts, sum(runs) as runs, sum(run_us) as run_us, max(longest_run_us) as longest, \
    tasker._sum_histograms(array_agg(run_histogram)) as histogram from tasker.statistics_buckets";

#[tokio::test]
async fn hours_become_days_and_days_months_until_they_are_forgotten() -> anyhow::Result<()> {
    const HOUR: f64 = 3600.0;
    let mut figures = Figures::new(&TEMPLATES[..1]).await?;
    // Twelve hours of the first of January, and some of the second.
    for hour in 1..=20 {
        figures
            .run("select tasker.create_task('chain') from generate_series(1, 3)")
            .await?;
        let held = figures.rows("select step_uuid, attempt, 'complete' as status, 1 as result from tasker.claim_steps('w', '{default}', 10)").await?;
        figures.goes_on(f64::from(hour)).await?;
        figures
            .run(&format!(
                "select * from tasker.finish_steps('w', '{}')",
                json!(held)
            ))
            .await?;
        figures.folded().await?;
        figures.goes_on(HOUR).await?;
    }
    let mut spans = Vec::new();
    let before = figures.rows(SUMS).await?.remove(0);
    let completed = "select coalesce(sum(completed), 0) from tasker.statistics((tasker._now() - interval '390 days')) where step_name = 'a'";
    for days in [0.0, 3.0, 62.0, 30.0, 200.0] {
        figures.goes_on(days * 24.0 * HOUR).await?;
        figures.run("select tasker.run_maintenance()").await?;
        let mut now = figures.rows(SUMS).await?.remove(0);
        spans.push(now["spans"].as_i64());
        now["spans"] = before["spans"].clone();
        assert_eq!(now, before, "after {spans:?}");
        assert_eq!(figures.number(completed).await?, 60);
        assert_eq!(figures.number("select count(*) from tasker.slowest_steps(tasker._now() - interval '390 days', \"limit\" => 20)").await?, 20);
    }
    // 20 hours; two days; still two days in March; the month.
    assert_eq!(spans, [20, 2, 2, 1, 1].map(Some));
    let slowest = "select max(duration_ms)::int as ms from tasker.slowest_steps(tasker._now() - interval '390 days')";
    assert_eq!(figures.rows(slowest).await?, [json!({"ms": 20000})]);
    figures.goes_on(110.0 * 24.0 * HOUR).await?;
    figures.run("select tasker.run_maintenance()").await?;
    for table in ["statistics_buckets", "slowest_runs"] {
        let left = format!("select count(*) from tasker.{table}");
        assert_eq!(figures.number(&left).await?, 0, "{table}");
    }
    Ok(())
}

#[tokio::test]
async fn a_time_is_rounded_down_to_its_bucket() -> anyhow::Result<()> {
    let mut figures = Figures::new(&TEMPLATES[..1]).await?;
    figures.run("select tasker.create_task('chain')").await?;
    drain(&mut figures.session).await?;
    figures.folded().await?;
    figures.goes_on(1800.0).await?;
    for (since, start) in [
        (
            "tasker._now() - interval '5 minutes'",
            "2030-01-01T12:00:00+00:00",
        ),
        ("'2029-12-30 15:30+00'", "2029-12-30T15:00:00+00:00"),
        ("'2029-12-29 15:30+00'", "2029-12-29T00:00:00+00:00"),
        ("'2029-09-29 15:30+00'", "2029-09-01T00:00:00+00:00"),
        ("null", "2029-12-31T12:00:00+00:00"),
    ] {
        let rows = figures
            .rows(&format!(
                "select distinct since from tasker.statistics({since})"
            ))
            .await?;
        assert_eq!(rows, [json!({"since": start})], "{since}");
    }
    figures.run("set timezone = 'Asia/Kolkata'").await?;
    let rows = figures.rows("select distinct since = '2030-01-01 12:00+00' as is_it from tasker.statistics(tasker._now())").await?;
    assert_eq!(rows, [json!({"is_it": true})]);
    Ok(())
}
