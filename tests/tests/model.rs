//! Thousands of operations as chance has it, against a database and against the model in plain Rust: after each, every task and every step must be where the model says.
//!
//! A run that fails prints its seed; `TASKER_MODEL_SEED=1 cargo test -p tasker-tests --test model` runs it again, and `TASKER_MODEL_OPERATIONS` sets how long a run is.

use std::collections::BTreeMap;

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use sqlx::{Executor, PgConnection, Row};
use tasker_tests::TestDatabase;
use tasker_tests::model::{Definition, Millis, Model, Place, Template};
use uuid::Uuid;

const SESSIONS: usize = 3;
const DEFAULT_OPERATIONS: u32 = 700;
const LEASES: [Millis; 2] = [5_000, 60_000];

const fn step(
    name: &'static str,
    dependencies: &'static [usize],
    max_attempts: i32,
    delay: Millis,
) -> Definition {
    Definition {
        name,
        dependencies,
        max_attempts,
        delay,
    }
}

const STEPS: &[Definition] = &[
    step("a", &[], 2, 0),
    step("b", &[0], 3, 2_000),
    step("c", &[0], 1, 0),
    step("d", &[1, 2], 2, 10_000),
    step("e", &[3], 3, 0),
];

const fn template(name: &'static str, blocks: bool, defers: bool) -> Template {
    Template {
        name,
        steps: STEPS,
        blocks,
        defers,
    }
}

static TEMPLATES: [Template; 4] = [
    template("plain", false, false),
    template("blocking", true, false),
    template("deferred", false, true),
    template("deferred_blocking", true, true),
];

/// The template as it is registered.
fn written(template: &Template) -> String {
    let steps: Vec<Value> = template
        .steps
        .iter()
        .map(|step| {
            let dependencies: Vec<&str> = step
                .dependencies
                .iter()
                .map(|&dependency| template.steps[dependency].name)
                .collect();
            let backoff = if step.delay == 0 {
                "none"
            } else {
                "exponential"
            };
            json!({
                "name": step.name, "handler": {"callable": "t.t"}, "dependencies": dependencies,
                "retry": {"max_attempts": step.max_attempts, "backoff": backoff, "jitter": 0,
                    "backoff_base_ms": step.delay.max(1), "max_backoff_ms": step.delay.max(1)},
            })
        })
        .collect();
    json!({
        "name": template.name, "version": "1.0.0", "steps": steps,
        "lifecycle": {
            "on_failure": if template.blocks { "block" } else { "error" },
            "evaluation": if template.defers { "deferred" } else { "inline" },
        },
    })
    .to_string()
}

/// Numbers that look random and are the same for a seed (xorshift).
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }

    fn one_of<T: Copy>(&mut self, all: &[T]) -> Option<T> {
        (!all.is_empty()).then(|| all[self.below(all.len())])
    }
}

/// The model, the database beside it, and the claims that somebody holds, or held.
struct Run {
    model: Model,
    sessions: Vec<PgConnection>,
    chance: Chance,
    claims: Vec<(Place, i32)>,
    task_uuids: Vec<Uuid>,
    keys: BTreeMap<Place, Uuid>,
    trail: Vec<String>,
}

impl Run {
    async fn new(database: &TestDatabase, seed: u64) -> anyhow::Result<Self> {
        let mut sessions = Vec::new();
        for _ in 0..SESSIONS {
            sessions.push(database.session().await?);
        }
        for template in &TEMPLATES {
            sqlx::query("select from tasker.register_template($1::jsonb)")
                .bind(written(template))
                .execute(&mut sessions[0])
                .await?;
        }
        let mut run = Self {
            model: Model::default(),
            sessions,
            chance: Chance(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1),
            claims: Vec::new(),
            task_uuids: Vec::new(),
            keys: BTreeMap::new(),
            trail: Vec::new(),
        };
        run.pass(0).await?;
        Ok(run)
    }

    fn session(&mut self) -> &mut PgConnection {
        let index = self.chance.below(SESSIONS);
        &mut self.sessions[index]
    }

    /// Runs a call that is refused with TK010 exactly when the model doesn't allow it.
    async fn call(&mut self, call: String, is_allowed: bool) -> anyhow::Result<()> {
        self.trail.push(format!("{call} -- {is_allowed}"));
        let done = self.session().execute(sqlx::raw_sql(&call)).await;
        match done {
            Ok(_) => ensure!(is_allowed, "the model doesn't allow {call}"),
            Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some("TK010") => {
                ensure!(!is_allowed, "the model allows {call}: {error}");
            }
            Err(error) => return Err(error).context(call),
        }
        Ok(())
    }

    async fn pass(&mut self, milliseconds: Millis) -> anyhow::Result<()> {
        self.model.now += milliseconds;
        self.trail.push(format!("the time is {}", self.model.now));
        for session in &mut self.sessions {
            sqlx::query("select tasker._set_now(timestamptz '2030-01-01 00:00:00+00' + $1 * interval '1 millisecond')")
                .bind(self.model.now)
                .execute(session)
                .await?;
        }
        Ok(())
    }

    async fn create(&mut self) -> anyhow::Result<()> {
        let template = &TEMPLATES[self.chance.below(TEMPLATES.len())];
        self.trail.push(format!("create {}", template.name));
        let task_uuid: Uuid = sqlx::query_scalar("select tasker.create_task($1)")
            .bind(template.name)
            .fetch_one(self.session())
            .await?;
        let number = self.task_uuids.len();
        self.task_uuids.push(task_uuid);
        self.model.create(template);
        let steps = sqlx::query("select step_uuid, name from tasker.list_steps($1)")
            .bind(task_uuid)
            .fetch_all(self.session())
            .await?;
        for row in steps {
            let name: String = row.try_get("name")?;
            let position = STEPS.iter().position(|step| step.name == name);
            let position = position.context("an unknown step")?;
            self.keys
                .insert((number, position), row.try_get("step_uuid")?);
        }
        Ok(())
    }

    async fn claim(&mut self) -> anyhow::Result<()> {
        let lease = LEASES[self.chance.below(LEASES.len())];
        self.trail.push(format!("claim under a lease of {lease}"));
        let rows = sqlx::query(
            "select step_uuid, attempt from tasker.claim_steps('w', '{default}', 10000, $1 * interval '1 millisecond')",
        )
        .bind(lease)
        .fetch_all(self.session())
        .await?;
        let mut got: Vec<(Uuid, i32)> = rows
            .iter()
            .map(|row| Ok((row.try_get(0)?, row.try_get(1)?)))
            .collect::<Result<_, sqlx::Error>>()?;
        let claimed = self.model.claim(lease);
        let mut expected = Vec::new();
        for place in claimed {
            let attempt = self.model.tasks[place.0].steps[place.1].attempt;
            self.claims.push((place, attempt));
            expected.push((self.keys[&place], attempt));
        }
        got.sort_unstable();
        expected.sort_unstable();
        ensure!(got == expected, "claimed {got:?}, not {expected:?}");
        Ok(())
    }

    /// Reports an outcome of a claim, which may have been lost meanwhile.
    async fn finish(&mut self) -> anyhow::Result<()> {
        if self.claims.is_empty() {
            return Ok(());
        }
        let index = self.chance.below(self.claims.len());
        let (place, attempt) = self.claims.swap_remove(index);
        let key = self.keys[&place];
        let mut outcome = json!({"step_uuid": key, "attempt": attempt});
        let is_accepted = match self.chance.below(8) {
            0 => {
                outcome["status"] = json!("release");
                self.model.release(place, attempt)
            }
            number @ 1..=3 => {
                let is_retryable = number != 1;
                outcome["status"] = json!("fail");
                // Told apart from any other, so that it is never a repetition.
                outcome["error"] = json!({"message": Uuid::new_v4(), "retryable": is_retryable});
                self.model.fail(place, attempt, is_retryable)
            }
            _ => {
                outcome["status"] = json!("complete");
                outcome["result"] = json!(Uuid::new_v4());
                self.model.complete(place, attempt)
            }
        };
        self.trail
            .push(format!("finish {outcome} -- {is_accepted}"));
        let verdict: String = sqlx::query_scalar(
            "select verdicts -> 0 ->> 'verdict' from tasker.finish_steps('w', jsonb_build_array($1::jsonb))",
        )
        .bind(&outcome)
        .fetch_one(self.session())
        .await?;
        ensure!(
            (verdict == "accepted") == is_accepted,
            "{verdict} for {outcome}, {is_accepted} in the model"
        );
        Ok(())
    }

    /// A task, by its number and its key.
    fn any_task(&mut self) -> Option<(usize, Uuid)> {
        let number = self.chance.below(self.task_uuids.len().max(1));
        Some((number, *self.task_uuids.get(number)?))
    }

    async fn turn(&mut self) -> anyhow::Result<()> {
        match self.chance.below(20) {
            0 | 1 => self.create().await,
            2 | 3 => {
                let milliseconds = [100, 1_500, 8_000, 70_000][self.chance.below(4)];
                self.pass(milliseconds).await
            }
            4..=6 => self.claim().await,
            7 => {
                self.model.maintain();
                self.call(
                    "select count(*) from tasker.run_maintenance(100000)".into(),
                    true,
                )
                .await
            }
            8 => self.cancel().await,
            9 => self.rerun().await,
            10 | 11 => self.repair().await,
            _ => self.finish().await,
        }
    }

    async fn cancel(&mut self) -> anyhow::Result<()> {
        let Some((number, task_uuid)) = self.any_task() else {
            return Ok(());
        };
        if self.chance.below(3) != 0 {
            return Ok(());
        }
        let is_allowed = self.model.cancel(number);
        self.call(
            format!("select tasker.cancel_task('{task_uuid}')"),
            is_allowed,
        )
        .await
    }

    async fn rerun(&mut self) -> anyhow::Result<()> {
        let Some((number, task_uuid)) = self.any_task() else {
            return Ok(());
        };
        let from = (self.chance.below(3) != 0).then(|| self.chance.below(STEPS.len()));
        let with_descendants = self.chance.below(2) == 0;
        let is_allowed = self.model.rerun(number, from, with_descendants);
        let name = from.map_or("null".to_owned(), |from| format!("'{}'", STEPS[from].name));
        let call = format!("select tasker.rerun_task('{task_uuid}', {name}, {with_descendants})");
        self.call(call, is_allowed).await
    }

    async fn repair(&mut self) -> anyhow::Result<()> {
        let Some((number, _)) = self.any_task() else {
            return Ok(());
        };
        let failed: Vec<usize> = (0..STEPS.len())
            .filter(|&step| self.model.tasks[number].steps[step].state == "error")
            .collect();
        let any = self.chance.below(STEPS.len());
        let step = self
            .chance
            .one_of(&failed)
            .filter(|_| self.chance.below(4) != 0)
            .unwrap_or(any);
        let place = (number, step);
        let key = self.keys[&place];
        let (call, is_allowed) = match self.chance.below(3) {
            0 => (
                format!("select tasker.reset_step('{key}')"),
                self.model.reset(place),
            ),
            1 => (
                format!("select tasker.resolve_step('{key}')"),
                self.model.settle_by_hand(place, "resolved_manually"),
            ),
            _ => (
                format!("select tasker.complete_step_manually('{key}', '1')"),
                self.model.settle_by_hand(place, "complete"),
            ),
        };
        self.call(call, is_allowed).await
    }

    /// Every task and step is where the model says.
    async fn compare(&mut self) -> anyhow::Result<()> {
        let tasks: Vec<(Uuid, String)> =
            sqlx::query_as("select task_uuid, state from tasker.tasks order by task_uuid")
                .fetch_all(self.session())
                .await?;
        let steps: Vec<(Uuid, String, i32, i32, i32)> = sqlx::query_as(
            "select step_uuid, state, attempt, attempts_used, remaining_dependencies from tasker.steps order by step_uuid",
        )
        .fetch_all(self.session())
        .await?;
        let mut expected: Vec<(Uuid, String)> = self
            .task_uuids
            .iter()
            .zip(&self.model.tasks)
            .map(|(&task_uuid, task)| (task_uuid, task.state.to_owned()))
            .collect();
        expected.sort_unstable();
        ensure!(tasks == expected, "tasks are {tasks:?}, not {expected:?}");
        let mut expected = Vec::with_capacity(steps.len());
        for (&(number, step), &key) in &self.keys {
            let task = &self.model.tasks[number];
            let row = &task.steps[step];
            expected.push((
                key,
                row.state.to_owned(),
                row.attempt,
                row.attempts_used,
                task.remaining(step),
            ));
        }
        expected.sort_unstable();
        for (found, expected) in steps.iter().zip(&expected) {
            ensure!(found == expected, "a step is {found:?}, not {expected:?}");
        }
        ensure!(steps.len() == expected.len());
        Ok(())
    }

    async fn verify(&mut self) -> anyhow::Result<()> {
        let violations: Vec<String> =
            sqlx::query_scalar("select invariant || ': ' || detail from tasker.verify()")
                .fetch_all(self.session())
                .await?;
        ensure!(violations.is_empty(), "{violations:?}");
        Ok(())
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[tokio::test]
async fn the_database_does_what_the_model_does() -> anyhow::Result<()> {
    let operations = number("TASKER_MODEL_OPERATIONS").unwrap_or(DEFAULT_OPERATIONS.into());
    let seeds: Vec<u64> = match number("TASKER_MODEL_SEED") {
        Some(seed) => vec![seed],
        // One that is always the same, and new ones.
        None => vec![
            1,
            Uuid::new_v4().as_u64_pair().0,
            Uuid::new_v4().as_u64_pair().0,
        ],
    };
    for seed in seeds {
        let database = TestDatabase::new().await?;
        let mut run = Run::new(&database, seed).await?;
        for operation in 0..operations {
            let done = async {
                run.turn().await?;
                run.compare().await?;
                if operation % 50 == 0 {
                    run.verify().await?;
                }
                anyhow::Ok(())
            }
            .await;
            let last = run.trail.len().saturating_sub(12);
            done.with_context(|| {
                format!(
                    "TASKER_MODEL_SEED={seed}, operation {operation}; the last ones:\n{}",
                    run.trail[last..].join("\n")
                )
            })?;
        }
        run.verify().await?;
        let states: std::collections::BTreeSet<&str> =
            run.model.tasks.iter().map(|task| task.state).collect();
        if seed == 1 && operations >= DEFAULT_OPERATIONS.into() {
            for state in ["complete", "error", "cancelled", "blocked_by_failures"] {
                ensure!(
                    states.contains(state),
                    "seed {seed} made no task {state}: {states:?}"
                );
            }
        }
    }
    Ok(())
}
