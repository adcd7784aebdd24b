//! Maintenance, and the tasks that it starts.

use anyhow::Context;
use uuid::Uuid;

use super::Run;
use crate::model::Answer;

/// What is due, job by job; then all that parents and children have to do with each other, in the model's order, which decides whether a child is started whose parent is to be cancelled.
const MAINTAIN: &str = "
do $$
declare
  later constant text[] := '{cancel_instances, cancel_children, settle_parents, start_children}';
  next_job text;
begin
  foreach next_job in array tasker._maintenance_jobs() loop
    if next_job <> all (later) then
      perform tasker.run_maintenance_job(next_job, 100000);
    end if;
  end loop;
  loop
    select f.job into next_job from tasker.maintenance_found f where f.job = any (later) order by array_position(later, f.job) limit 1;
    exit when not found;
    perform tasker.run_maintenance_job(next_job);
  end loop;
end $$";

impl Run {
    pub(super) async fn maintain(&mut self) -> anyhow::Result<()> {
        self.model.maintain();
        self.call(MAINTAIN.to_owned(), Answer::Done).await?;
        self.know_children().await
    }

    /// The keys of tasks that steps have started. A task is started after the one that it is a child of.
    async fn know_children(&mut self) -> anyhow::Result<()> {
        for number in self.task_uuids.len()..self.model.tasks.len() {
            let parent = self.model.tasks[number].parent();
            let parent = parent.context("only children are created by maintenance")?;
            let key = self.key(parent.place);
            let task_uuid: Option<Uuid> = sqlx::query_scalar(
                "select c.task_uuid from tasker.child_tasks c where c.parent_step_uuid = $1 and c.attempt = $2",
            )
            .bind(key)
            .bind(parent.attempt)
            .fetch_optional(self.session())
            .await?;
            let task_uuid = task_uuid.with_context(|| {
                format!(
                    "step {key} has no child in attempt {}: {}",
                    parent.attempt,
                    self.about(key)
                )
            })?;
            self.trail
                .push(format!("task {task_uuid} is a child of {key}"));
            self.task_uuids.push(task_uuid);
        }
        Ok(())
    }
}
