//! Thousands of operations as chance has it, against a database and against the model in plain Rust: after each, every task and every step must be where the model says.
//!
//! A run that fails prints its seed; `TASKER_MODEL_SEED=1 cargo test -p tasker-tests --test model` runs it again, and `TASKER_MODEL_OPERATIONS` sets how long a run is.

use std::collections::BTreeSet;
use std::rc::Rc;

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use sqlx::{Executor, PgConnection};
use tasker_rules::key::step_key;
use tasker_tests::TestDatabase;
use tasker_tests::model::{
    Answer, Chance, Definition, Kind, Millis, Model, Payload, Place, Template, written,
};
use uuid::Uuid;

const SESSIONS: usize = 3;
const DEFAULT_OPERATIONS: u32 = 500;
const LEASES: [Millis; 2] = [5_000, 60_000];
const RANDOM_TEMPLATES: usize = 8;

fn step(name: &str, dependencies: &[usize], max_attempts: i32, delay: Millis) -> Definition {
    Definition {
        name: name.to_owned(),
        kind: Kind::Plain,
        dependencies: dependencies.to_vec(),
        max_attempts,
        delay,
    }
}

fn plain(name: &str, blocks: bool, defers: bool) -> Template {
    Template {
        name: name.to_owned(),
        steps: vec![
            step("a", &[], 2, 0),
            step("b", &[0], 3, 2_000),
            step("c", &[0], 1, 0),
            step("d", &[1, 2], 2, 10_000),
            step("e", &[3], 3, 0),
        ],
        blocks,
        defers,
    }
}

/// Those without decisions and instances, and as many with them.
fn templates(chance: &mut Chance) -> Vec<Rc<Template>> {
    let mut templates = vec![
        plain("plain", false, false),
        plain("blocking", true, false),
        plain("deferred", false, true),
        plain("deferred_blocking", true, true),
    ];
    templates.extend(
        (0..RANDOM_TEMPLATES).map(|number| Template::random(&format!("random_{number}"), chance)),
    );
    templates.into_iter().map(Rc::new).collect()
}

/// The model, the database beside it, and the claims that somebody holds, or held.
struct Run {
    model: Model,
    sessions: Vec<PgConnection>,
    chance: Chance,
    templates: Vec<Rc<Template>>,
    claims: Vec<(Place, i32)>,
    task_uuids: Vec<Uuid>,
    trail: Vec<String>,
}

impl Run {
    async fn new(database: &TestDatabase, seed: u64) -> anyhow::Result<Self> {
        let mut sessions = Vec::new();
        for _ in 0..SESSIONS {
            sessions.push(database.session().await?);
        }
        let mut chance = Chance::new(seed);
        let templates = templates(&mut chance);
        for template in &templates {
            sqlx::query("select from tasker.register_template($1::jsonb)")
                .bind(written(template))
                .execute(&mut sessions[0])
                .await
                .with_context(|| written(template))?;
        }
        let mut run = Self {
            model: Model::default(),
            sessions,
            chance,
            templates,
            claims: Vec::new(),
            task_uuids: Vec::new(),
            trail: Vec::new(),
        };
        run.pass(0).await?;
        Ok(run)
    }

    fn session(&mut self) -> &mut PgConnection {
        let index = self.chance.below(SESSIONS);
        &mut self.sessions[index]
    }

    fn key(&self, (number, position): Place) -> Uuid {
        let task = self.task_uuids[number].as_u128();
        Uuid::from_u128(step_key(task, position as u32 + 1).unwrap_or_default())
    }

    /// Runs a call that is refused exactly as the model refuses it.
    async fn call(&mut self, call: String, expected: Answer) -> anyhow::Result<()> {
        self.trail.push(format!("{call} -- {expected:?}"));
        let done = self.session().execute(sqlx::raw_sql(&call)).await;
        let answer = match &done {
            Ok(_) => Answer::Done,
            Err(error) => match error
                .as_database_error()
                .and_then(sqlx::error::DatabaseError::code)
            {
                Some(code) if code == "TK010" => Answer::NotAllowed,
                Some(code) if code == "TK002" => Answer::NoStep,
                _ => return done.map(drop).context(call),
            },
        };
        ensure!(
            answer == expected,
            "{answer:?}, and in the model {expected:?}: {call}"
        );
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
        let template = Rc::clone(&self.templates[self.chance.below(self.templates.len())]);
        self.trail.push(format!("create {}", template.name));
        let task_uuid: Uuid = sqlx::query_scalar("select tasker.create_task($1)")
            .bind(&template.name)
            .fetch_one(self.session())
            .await?;
        self.task_uuids.push(task_uuid);
        self.model.create(&template);
        Ok(())
    }

    async fn claim(&mut self) -> anyhow::Result<()> {
        let lease = LEASES[self.chance.below(LEASES.len())];
        self.trail.push(format!("claim under a lease of {lease}"));
        let mut got: Vec<(Uuid, i32)> = sqlx::query_as(
            "select step_uuid, attempt from tasker.claim_steps('w', '{default}', 10000, $1 * interval '1 millisecond')",
        )
        .bind(lease)
        .fetch_all(self.session())
        .await?;
        let claimed = self.model.claim(lease);
        let mut expected = Vec::new();
        for place in claimed {
            let attempt = self.model.tasks[place.0].steps[&place.1].attempt;
            self.claims.push((place, attempt));
            expected.push((self.key(place), attempt));
        }
        got.sort_unstable();
        expected.sort_unstable();
        ensure!(got == expected, "claimed {got:?}, not {expected:?}");
        Ok(())
    }

    /// A result of a step, with as much of it as the engine reads.
    fn result(&mut self, (number, position): Place, is_good: bool) -> (Value, Payload) {
        let template = Rc::clone(&self.model.tasks[number].template);
        let (of, instance) = template.place(position);
        let count = self.chance.below(5);
        let is_good = is_good || !self.chance.once_in(8);
        let items: Vec<usize> = (0..count).collect();
        let some = Payload::Items(Some(count));
        match template.steps[of].kind {
            _ if instance.is_some() => (json!(position), Payload::Nothing),
            Kind::Decision => self.choice(&template, of, is_good),
            Kind::Batchable if is_good => (json!({"batch": {"cursors": items}}), some),
            Kind::Batchable => (json!({"batch": items}), Payload::Items(None)),
            Kind::Many { .. } => (json!(items), some),
            _ if is_good => (json!({"items": items}), some),
            _ => (json!({"items": "none"}), Payload::Items(None)),
        }
    }

    fn choice(&mut self, template: &Template, of: usize, is_good: bool) -> (Value, Payload) {
        let dependents = template.dependents(of);
        let behind: Vec<usize> = (of + 1..template.steps.len())
            .filter(|&step| template.leads_to(of, step))
            .collect();
        let picked: Vec<usize> = behind
            .into_iter()
            .filter(|step| {
                self.chance
                    .once_in(if dependents.contains(step) { 2 } else { 8 })
            })
            .collect();
        let mut names: Vec<&str> = picked
            .iter()
            .map(|&step| template.steps[step].name.as_str())
            .collect();
        let chosen: BTreeSet<usize> = picked
            .iter()
            .flat_map(|&step| {
                if dependents.contains(&step) {
                    return vec![step];
                }
                let through = dependents.iter().copied();
                through
                    .filter(|&dependent| template.leads_to(dependent, step))
                    .collect()
            })
            .collect();
        if !is_good {
            // Not behind itself.
            names.push(&template.steps[of].name);
        }
        (
            json!({"decision": {"steps": names}}),
            Payload::Choice(is_good.then_some(chosen)),
        )
    }

    /// Reports outcomes of claims, which may have been lost meanwhile.
    async fn finish(&mut self) -> anyhow::Result<()> {
        let (mut outcomes, mut expected) = (Vec::new(), Vec::new());
        let mut seen = BTreeSet::new();
        for _ in 0..=self.chance.below(3) {
            if self.claims.is_empty() {
                break;
            }
            let index = self.chance.below(self.claims.len());
            let (place, attempt) = self.claims.swap_remove(index);
            if !seen.insert(place) {
                continue;
            }
            let mut outcome = json!({"step_uuid": self.key(place), "attempt": attempt});
            expected.push(match self.chance.below(12) {
                0 => {
                    outcome["status"] = json!("release");
                    self.model.release(place, attempt)
                }
                number @ 1..=3 => {
                    let is_retryable = number != 1;
                    outcome["status"] = json!("fail");
                    // Told apart from any other, so that it is never a repetition.
                    outcome["error"] =
                        json!({"message": Uuid::new_v4(), "retryable": is_retryable});
                    self.model.fail(place, attempt, is_retryable)
                }
                _ => {
                    let (result, payload) = self.result(place, false);
                    outcome["status"] = json!("complete");
                    outcome["result"] = result;
                    match &mut outcome["result"] {
                        Value::Object(fields) => {
                            fields.insert("told_apart".to_owned(), json!(Uuid::new_v4()));
                        }
                        other => *other = json!(Uuid::new_v4()),
                    }
                    self.model.complete(place, attempt, payload)
                }
            });
            outcomes.push(outcome);
        }
        self.model.settle();
        let outcomes = json!(outcomes);
        self.trail
            .push(format!("finish {outcomes} -- {expected:?}"));
        let verdicts: Value =
            sqlx::query_scalar("select verdicts from tasker.finish_steps('w', $1::jsonb)")
                .bind(&outcomes)
                .fetch_one(self.session())
                .await?;
        let accepted: Vec<bool> = verdicts
            .as_array()
            .into_iter()
            .flatten()
            .map(|verdict| verdict["verdict"] == "accepted")
            .collect();
        ensure!(
            accepted == expected,
            "{verdicts}, {expected:?} in the model"
        );
        Ok(())
    }

    /// A task, by its number and its key.
    fn any_task(&mut self) -> Option<(usize, Uuid)> {
        let number = self.chance.below(self.task_uuids.len().max(1));
        Some((number, *self.task_uuids.get(number)?))
    }

    async fn turn(&mut self) -> anyhow::Result<()> {
        match self.chance.below(24) {
            0 | 1 => self.create().await,
            2 | 3 => {
                let milliseconds = [100, 1_500, 8_000, 70_000][self.chance.below(4)];
                self.pass(milliseconds).await
            }
            4..=7 => self.claim().await,
            8 => self.maintain().await,
            9 => self.cancel().await,
            10 => self.rerun().await,
            11 | 12 => self.repair().await,
            13 => self.pause().await,
            _ => self.finish().await,
        }
    }

    async fn maintain(&mut self) -> anyhow::Result<()> {
        const REST: &str = "select count(*) from tasker.run_maintenance(100000); \
            do $$ begin while exists (select from tasker.maintenance_found where job = 'cancel_instances') loop \
              perform tasker.run_maintenance_job('cancel_instances'); end loop; end $$";
        self.model.maintain();
        self.call(REST.to_owned(), Answer::Done).await
    }

    async fn cancel(&mut self) -> anyhow::Result<()> {
        let Some((number, task_uuid)) = self.any_task() else {
            return Ok(());
        };
        if !self.chance.once_in(3) {
            return Ok(());
        }
        let answer = self.model.cancel(number);
        self.call(format!("select tasker.cancel_task('{task_uuid}')"), answer)
            .await
    }

    async fn pause(&mut self) -> anyhow::Result<()> {
        let Some((number, task_uuid)) = self.any_task() else {
            return Ok(());
        };
        if self.chance.once_in(3) {
            let answer = self.model.pause(number);
            let call = format!("select tasker.pause_task('{task_uuid}')");
            return self.call(call, answer).await;
        }
        self.model.resume(number);
        let call = format!("select tasker.resume_task('{task_uuid}')");
        self.call(call, Answer::Done).await
    }

    async fn rerun(&mut self) -> anyhow::Result<()> {
        let Some((number, task_uuid)) = self.any_task() else {
            return Ok(());
        };
        let template = Rc::clone(&self.model.tasks[number].template);
        let from = (!self.chance.once_in(3)).then(|| self.chance.below(template.steps.len()));
        let with_descendants = self.chance.once_in(2);
        let answer = self.model.rerun(number, from, with_descendants);
        let name = from.map_or("null".to_owned(), |from| {
            format!("'{}'", template.steps[from].name)
        });
        let call = format!("select tasker.rerun_task('{task_uuid}', {name}, {with_descendants})");
        self.call(call, answer).await
    }

    async fn repair(&mut self) -> anyhow::Result<()> {
        let Some((number, _)) = self.any_task() else {
            return Ok(());
        };
        let steps = &self.model.tasks[number].steps;
        let all: Vec<usize> = steps.keys().copied().collect();
        let failed: Vec<usize> = steps
            .iter()
            .filter(|(_, step)| ["error", "cancelled"].contains(&step.state))
            .map(|(&position, _)| position)
            .collect();
        let any = all[self.chance.below(all.len())];
        let failed = self.chance.one_of(&failed);
        let position = failed.filter(|_| !self.chance.once_in(4)).unwrap_or(any);
        let place = (number, position);
        let key = self.key(place);
        let (call, answer) = match self.chance.below(3) {
            0 => (
                format!("select tasker.reset_step('{key}')"),
                self.model.reset(place),
            ),
            1 => (
                format!("select tasker.resolve_step('{key}')"),
                self.model
                    .settle_by_hand(place, "resolved_manually", Payload::Nothing),
            ),
            _ => {
                let (result, payload) = self.result(place, true);
                (
                    format!("select tasker.complete_step_manually('{key}', '{result}')"),
                    self.model.settle_by_hand(place, "complete", payload),
                )
            }
        };
        self.call(call, answer).await
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
        ensure!(tasks.len() == expected.len());
        for (found, expected) in tasks.iter().zip(&expected) {
            ensure!(
                found == expected,
                "a task is {found:?}, not {expected:?}: {}",
                self.about(found.0)
            );
        }
        let mut expected = Vec::with_capacity(steps.len());
        for (number, task) in self.model.tasks.iter().enumerate() {
            let counters = task.counters();
            for (&position, step) in &task.steps {
                expected.push((
                    self.key((number, position)),
                    step.state.to_owned(),
                    step.attempt,
                    step.attempts_used,
                    task.remaining(position, &counters),
                ));
            }
        }
        expected.sort_unstable();
        for (found, expected) in steps.iter().zip(&expected) {
            ensure!(
                found == expected,
                "a step is {found:?}, not {expected:?}: {}",
                self.about(found.0)
            );
        }
        ensure!(steps.len() == expected.len());
        Ok(())
    }

    /// The template and the model's steps of the task that a step belongs to.
    fn about(&self, step: Uuid) -> String {
        let task = step.as_u128() & !0xf_ffff;
        let number = self
            .task_uuids
            .iter()
            .position(|task_uuid| task_uuid.as_u128() == task);
        number.map_or_else(String::new, |number| {
            let task = &self.model.tasks[number];
            format!("{}\n{:#?}", written(&task.template), task)
        })
    }

    async fn verify(&mut self) -> anyhow::Result<()> {
        let violations: Vec<String> =
            sqlx::query_scalar("select invariant || ': ' || detail from tasker.verify()")
                .fetch_all(self.session())
                .await?;
        ensure!(violations.is_empty(), "verify() says {violations:?}");
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
