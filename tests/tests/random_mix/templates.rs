//! The templates of the mix: one of every shape.

const WIDE: &str = "{name: wide, version: 1.0.0, steps: [
  {name: a, handler: {callable: t.a}, retry: {max_attempts: 2, backoff: none}},
  {name: b, handler: {callable: t.a}, dependencies: [a]},
  {name: c, handler: {callable: t.a}, dependencies: [a], retry: {max_attempts: 4, backoff: linear, backoff_base_ms: 1, jitter: 0}},
  {name: d, handler: {callable: t.a}, dependencies: [a]},
  {name: e, handler: {callable: t.a}, dependencies: [b, c, d]},
  {name: f, handler: {callable: t.a}, dependencies: [c]}]}";

/// A join of so many branches is locked after all else.
const BRANCHES: usize = 18;

/// What is decided, joined and made while a task runs.
const DYNAMIC: &str = "{name: dynamic, version: 1.0.0, steps: [
  {name: list, handler: {callable: t.a}},
  {name: route, type: decision, handler: {callable: t.a}, dependencies: [list]},
  {name: left, handler: {callable: t.a}, dependencies: [route]},
  {name: cut, type: batchable, handler: {callable: t.a}, dependencies: [route], batch_config: {parallelism: 2, failure_strategy: fail_fast}},
  {name: work, type: batch_worker, handler: {callable: t.a}, dependencies: [cut], retry: {max_attempts: 2, backoff: none}},
  {name: each, type: map, over: list.items, handler: {callable: t.a}, dependencies: [list], failure_strategy: isolate, retry: {max_attempts: 2, backoff: none}},
  {name: join, type: deferred_convergence, handler: {callable: t.a}, dependencies: [left, work, each]},
  {name: end, handler: {callable: t.a}, dependencies: [join]}]}";

/// What waits inside the engine: for a signal, a time and another task.
const WAITING: &str = "{name: waiting, version: 1.0.0, steps: [
  {name: a, handler: {callable: t.a}},
  {name: go, type: signal, signal: {name: go, timeout_seconds: 20}, dependencies: [a]},
  {name: nap, type: timer, delay_seconds: 5, dependencies: [a]},
  {name: sub, type: task, task: {template: dynamic}, dependencies: [a]},
  {name: b, handler: {callable: t.a}, dependencies: [go, nap, sub]}]}";

/// What is undone when the task fails.
const UNDONE: &str = "{name: undone, version: 1.0.0, steps: [
  {name: flight, handler: {callable: t.a}, compensate: {callable: t.a, retry: {max_attempts: 2, backoff: none}}},
  {name: list, handler: {callable: t.a}},
  {name: each, type: map, over: list.items, handler: {callable: t.a}, dependencies: [list], max_parallel: 2, failure_strategy: continue_on_failure, compensate: {callable: t.a}},
  {name: pay, handler: {callable: t.a}, dependencies: [flight, each], retry: {max_attempts: 1}}]}";

/// The templates that tasks are made of: one of every shape, and the same deferred.
pub(crate) fn templates() -> Vec<String> {
    let names: Vec<String> = (0..BRANCHES).map(|number| format!("s{number}")).collect();
    let branches: Vec<String> = names
        .iter()
        .map(|name| format!("{{name: {name}, handler: {{callable: t.a}}, retry: {{max_attempts: 2, backoff: none}}}}"))
        .collect();
    let joined = format!(
        "{{name: joined, version: 1.0.0, steps: [{}, {{name: join, handler: {{callable: t.a}}, dependencies: [{}]}}]}}",
        branches.join(", "),
        names.join(", ")
    );
    let deferred = |template: &str, name: &str| {
        template.replace(
            &format!("name: {name}, version: 1.0.0,"),
            &format!("name: {name}_deferred, version: 1.0.0, lifecycle: {{evaluation: deferred, on_failure: block}},"),
        )
    };
    vec![
        deferred(DYNAMIC, "dynamic"),
        DYNAMIC.to_owned(),
        deferred(WIDE, "wide"),
        deferred(&joined, "joined"),
        WIDE.to_owned(),
        joined,
        deferred(WAITING, "waiting"),
        WAITING.to_owned(),
        deferred(UNDONE, "undone"),
        UNDONE.to_owned(),
    ]
}

/// Their names.
pub(crate) const NAMES: [&str; 10] = [
    "wide",
    "wide_deferred",
    "joined",
    "joined_deferred",
    "dynamic",
    "dynamic_deferred",
    "waiting",
    "waiting_deferred",
    "undone",
    "undone_deferred",
];
