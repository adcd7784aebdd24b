//! A bit of everything that callers do, in one session: nearly every public function is called, with success.

use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::eventually;
use crate::weeks::work_off;

/// For what other sessions of the cluster hold up.
const WITHIN: Duration = Duration::from_mins(1);

const TEMPLATES: [&str; 3] = [
    "{name: mixed, version: 1.0.0, steps: [\
      {name: a, handler: {callable: t}, retry: {max_attempts: 2, backoff: none}}, {name: b, handler: {callable: t}, dependencies: [a]}, \
      {name: c, handler: {callable: t}, dependencies: [a]}, {name: d, handler: {callable: t}, dependencies: [b, c]}]}",
    "{name: blocking, version: 1.0.0, lifecycle: {on_failure: block}, steps: [{name: a, handler: {callable: t}}, {name: b, handler: {callable: t}, dependencies: [a]}]}",
    "{name: resting, version: 1.0.0, lifecycle: {evaluation: deferred}, steps: [{name: a, handler: {callable: t}}, {name: b, handler: {callable: t}, dependencies: [a]}]}",
];

/// A session that does it.
#[derive(Debug)]
pub struct Mix<'a> {
    session: &'a mut PgConnection,
}

impl<'a> Mix<'a> {
    /// The namespace `default` must have nothing to claim.
    pub async fn new(session: &'a mut PgConnection) -> anyhow::Result<Self> {
        let mut mix = Self { session };
        for template in TEMPLATES {
            let register =
                format!("select created::text from tasker.register_template('{template}'::text)");
            mix.one(&register).await?;
        }
        mix.one("select tasker.register_worker('w', '{default}', '{t}', 'sql', '1')::text")
            .await?;
        Ok(mix)
    }

    /// The one text that a query gives; null is empty.
    async fn one(&mut self, query: &str) -> anyhow::Result<String> {
        let text: Option<String> = sqlx::query_scalar(query)
            .fetch_one(&mut *self.session)
            .await
            .with_context(|| query.to_owned())?;
        Ok(text.unwrap_or_default())
    }

    /// Requires what a query gives.
    async fn is(&mut self, query: &str, expected: &str) -> anyhow::Result<()> {
        let found = self.one(query).await?;
        ensure!(found == expected, "{query} gives {found}, not {expected}");
        Ok(())
    }

    async fn create(&mut self, template: &str) -> anyhow::Result<Uuid> {
        let create =
            format!("select tasker.create_task('{template}', context => '{{\"n\": 1}}')::text");
        Ok(self.one(&create).await?.parse()?)
    }

    async fn state_is(&mut self, task: Uuid, expected: &str) -> anyhow::Result<()> {
        self.is(
            &format!("select state from tasker.get_task('{task}')"),
            expected,
        )
        .await
    }

    /// The key of one of a task's steps.
    async fn step(&mut self, task: Uuid, name: &str) -> anyhow::Result<Uuid> {
        let query = format!(
            "select step_uuid::text from tasker.list_steps('{task}') where name = '{name}'"
        );
        Ok(self.one(&query).await?.parse()?)
    }

    /// Claims the one step that is ready.
    async fn claim(&mut self) -> anyhow::Result<Value> {
        let query = "select to_jsonb(c)::text from tasker.claim_steps('w', '{default}', 10) c";
        Ok(serde_json::from_str(&self.one(query).await?)?)
    }

    async fn finish(
        &mut self,
        step: &Value,
        outcome: &Value,
        next: u32,
    ) -> anyhow::Result<Vec<Value>> {
        let mut outcome = outcome.clone();
        outcome["step_uuid"] = step["step_uuid"].clone();
        outcome["attempt"] = step["attempt"].clone();
        let query = format!(
            "select jsonb_build_array(verdicts -> 0 ->> 'verdict', to_jsonb(claimed))::text \
             from tasker.finish_steps('w', '{}', {next}, namespaces => '{{default}}', request_id => gen_random_uuid())",
            json!([outcome])
        );
        let answer: Value = serde_json::from_str(&self.one(&query).await?)?;
        ensure!(answer[0] == "accepted", "{answer}");
        Ok(answer[1].as_array().cloned().unwrap_or_default())
    }

    async fn work_off(&mut self) -> anyhow::Result<()> {
        let done = json!({"status": "complete", "result": {"n": 2}});
        // What rests goes on by maintenance.
        while work_off(self.session, &done).await? + self.maintain().await? > 0 {}
        Ok(())
    }

    async fn maintain(&mut self) -> anyhow::Result<i64> {
        let query = "select (count(*) filter (where more or job = 'evaluate' and processed > 0))::text from tasker.run_maintenance()";
        Ok(self.one(query).await?.parse()?)
    }

    /// All of it. Everything that was created has ended afterwards, and every invariant holds.
    pub async fn run(&mut self) -> anyhow::Result<()> {
        self.a_task_goes_its_way().await?;
        self.failures_are_repaired().await?;
        self.dead_letters_are_resolved().await?;
        self.tasks_are_held_and_cancelled().await?;
        self.many_tasks_at_once().await?;
        self.everything_is_read().await?;
        self.work_off().await?;
        self.is("select count(*)::text from tasker.verify()", "0")
            .await
    }

    async fn a_task_goes_its_way(&mut self) -> anyhow::Result<()> {
        let task = self.create("mixed").await?;
        let a = self.claim().await?;
        let key = a["step_uuid"].as_str().unwrap_or_default().to_owned();
        let attempt = &a["attempt"];
        self.is("select tasker.worker_heartbeat('w', 1, 4)::text", "")
            .await?;
        let extend = format!(
            "select verdict from tasker.extend_leases('w', '[{{\"step_uuid\": \"{key}\", \"attempt\": {attempt}}}]')"
        );
        self.is(&extend, "held").await?;
        let again = json!({"status": "fail", "error": {"message": "m", "retry_after_ms": 0}});
        self.finish(&a, &again, 0).await?;
        let a = self.claim().await?;
        self.finish(&a, &json!({"status": "release"}), 0).await?;
        let a = self.claim().await?;
        let next = self
            .finish(&a, &json!({"status": "complete", "result": 1}), 5)
            .await?;
        ensure!(next.len() == 2, "b and c are handed over: {next:?}");
        for step in &next {
            let complete = format!(
                "select tasker.complete_step({}, {}, '2')::text",
                quoted(step),
                step["attempt"]
            );
            self.is(&complete, "").await?;
        }
        self.work_off().await?;
        self.state_is(task, "complete").await
    }

    async fn failures_are_repaired(&mut self) -> anyhow::Result<()> {
        for repair in [
            "reset_step(%, 'r')",
            "complete_step_manually(%, '7', 'r')",
            "resolve_step(%, 'r')",
        ] {
            let task = self.create("blocking").await?;
            let step = self.claim().await?;
            let fail = format!(
                "select tasker.fail_step({}, {}, '{{\"message\": \"m\"}}', retryable => false)::text",
                quoted(&step),
                step["attempt"]
            );
            self.is(&fail, "").await?;
            self.state_is(task, "blocked_by_failures").await?;
            let call = format!(
                "select tasker.{}::text",
                repair.replace('%', &quoted(&step))
            );
            self.is(&call, "").await?;
            self.work_off().await?;
            self.state_is(task, "complete").await?;
            self.one(&format!("select tasker.rerun_task('{task}', 'b')::text"))
                .await?;
            self.work_off().await?;
            self.state_is(task, "complete").await?;
        }
        let resting = self.create("resting").await?;
        self.work_off().await?;
        self.state_is(resting, "complete").await
    }

    async fn dead_letters_are_resolved(&mut self) -> anyhow::Result<()> {
        let task = self.create("blocking").await?;
        let open = format!("select tasker.open_dead_letter('{task}', 'looked at')::text");
        let letter = self.one(&open).await?;
        self.is(
            &format!("select count(*)::text from tasker.get_dead_letter('{letter}')"),
            "1",
        )
        .await?;
        self.is(
            &format!("select resolution from tasker.resolve_dead_letter('{letter}', 'cancelled')"),
            "cancelled",
        )
        .await?;
        self.state_is(task, "cancelled").await
    }

    async fn tasks_are_held_and_cancelled(&mut self) -> anyhow::Result<()> {
        let task = self.create("mixed").await?;
        self.is(
            &format!("select tasker.pause_task('{task}', 'r')::text"),
            "true",
        )
        .await?;
        self.is(
            "select count(*)::text from tasker.claim_steps('w', '{default}', 10)",
            "0",
        )
        .await?;
        self.is(
            &format!("select tasker.resume_task('{task}')::text"),
            "true",
        )
        .await?;
        self.is("select tasker.pause_namespace('default')::text", "true")
            .await?;
        let held = self.create("mixed").await?;
        self.state_is(held, "pending").await?;
        self.is("select tasker.resume_namespace('default')::text", "true")
            .await?;
        self.state_is(held, "steps_in_process").await?;
        self.is(
            &format!("select tasker.cancel_task('{held}', 'r')::text"),
            "true",
        )
        .await?;
        self.is("select settings ->> 'retention_days' from tasker.set_namespace('default', '{\"retention_days\": 40}')", "40")
            .await?;
        self.work_off().await?;
        self.state_is(task, "complete").await
    }

    async fn many_tasks_at_once(&mut self) -> anyhow::Result<()> {
        let requests = json!([{"template_name": "mixed", "tags": ["many"], "idempotency_key": "k"}, {"template_name": "mixed", "tags": ["many"]}, {"template_name": "resting"}]);
        for created in ["3", "2"] {
            let create = format!(
                "select (count(*) filter (where created))::text from tasker.create_tasks('{requests}')"
            );
            self.is(&create, created).await?;
        }
        let later = "select tasker.create_task('mixed', run_at => tasker._now() - interval '1 second')::text";
        self.one(later).await?;
        for dry_run in [true, false] {
            let apply = format!(
                "select count(*)::text from tasker.apply_to_tasks('{{\"tags\": [\"many\"], \"states\": [\"steps_in_process\"]}}', 'cancel', {dry_run}) a"
            );
            self.one(&apply).await?;
        }
        self.work_off().await
    }

    async fn everything_is_read(&mut self) -> anyhow::Result<()> {
        let task = self.create("mixed").await?;
        let step = self.step(task, "a").await?;
        for call in [
            "list_templates()".to_owned(),
            "get_template('mixed')".to_owned(),
            "list_tasks()".to_owned(),
            format!("get_step('{step}')"),
            format!("task_history('{task}')"),
            format!("step_history('{step}')"),
            format!("task_graph('{task}')"),
            format!("explain_task('{task}')"),
            "list_dead_letters()".to_owned(),
            "dead_letter_stats()".to_owned(),
            "list_events()".to_owned(),
            "list_namespaces()".to_owned(),
            "list_workers()".to_owned(),
            "list_bulk_jobs()".to_owned(),
            "queue_stats()".to_owned(),
            "health()".to_owned(),
        ] {
            let count = format!("select count(*)::text from tasker.{call}");
            // Events wait for older transactions, wherever in the cluster they are.
            eventually(&format!("{call} gives something"), WITHIN, async || {
                Ok((self.one(&count).await? != "0").then_some(()))
            })
            .await?;
        }
        self.one("select count(*)::text from tasker.stale_tasks()")
            .await?;
        self.is(
            "select (tasker.work_due_in_ms('{default}') = 0)::text",
            "true",
        )
        .await?;
        self.is(
            "select count(*)::text from tasker.health() where not ok and name <> 'maintenance'",
            "0",
        )
        .await
    }
}

/// A step's key as an SQL literal.
fn quoted(step: &Value) -> String {
    format!("'{}'", step["step_uuid"].as_str().unwrap_or_default())
}
