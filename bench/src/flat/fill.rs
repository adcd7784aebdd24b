//! Finished steps in great number: the rows of one finished task are copied under new keys, set by set. What the columns are is asked of the database,
//! so that only keys and table names are known here.

use anyhow::{Context, ensure};
use sqlx::{FromRow, PgConnection};
use uuid::Uuid;

/// The tables in which a finished task has rows, each with the key `task_uuid` or `step_uuid`.
pub(super) const TABLES: [&str; 4] = ["tasks", "steps", "task_transitions", "step_transitions"];

/// Tasks copied at a time.
const BATCH: usize = 5_000;

const A_FINISHED_TASK: &str = "select t.task_uuid, (select count(*) from tasker.steps s \
     where s.step_uuid > t.task_uuid and s.step_uuid <= tasker._last_step_uuid(t.task_uuid)) as steps \
    from tasker.tasks t where t.state = 'complete' order by t.task_uuid limit 1";

/// The columns that a copy has to be given: those that the database doesn't number or compute itself.
const COLUMNS: &str = "select column_name::text from information_schema.columns \
    where table_schema = 'tasker' and table_name = $1 and is_identity = 'NO' and is_generated = 'NEVER' \
      and coalesce(column_default, '') not like 'nextval(%' order by ordinal_position";

/// The task whose rows are copied.
#[derive(Debug, FromRow)]
struct Original {
    task_uuid: Uuid,
    steps: i64,
}

/// Puts at least so many finished steps into the tables. At least one task must have been completed.
pub(super) async fn finished_steps(session: &mut PgConnection, steps: usize) -> anyhow::Result<()> {
    let original: Original = sqlx::query_as(A_FINISHED_TASK)
        .fetch_optional(&mut *session)
        .await?
        .context("no task is complete")?;
    ensure!(original.steps > 0, "the completed task has no steps");
    let mut statements = Vec::new();
    for table in TABLES {
        let columns: Vec<String> = sqlx::query_scalar(COLUMNS)
            .bind(table)
            .fetch_all(&mut *session)
            .await?;
        statements.push(copy(table, &columns));
    }
    let mut left = steps.div_ceil(original.steps as usize);
    while left > 0 {
        let tasks = left.min(BATCH);
        let keys: Vec<Uuid> =
            sqlx::query_scalar("select tasker._task_uuids($1, clock_timestamp())")
                .bind(tasks as i32)
                .fetch_one(&mut *session)
                .await?;
        for statement in &statements {
            sqlx::query(statement)
                .bind(original.task_uuid)
                .bind(&keys)
                .execute(&mut *session)
                .await?;
        }
        left -= tasks;
    }
    Ok(())
}

/// The statement that copies the rows of task `$1` in a table, in their order, for each of the tasks `$2`.
fn copy(table: &str, columns: &[String]) -> String {
    let of_step = columns.iter().any(|column| column == "step_uuid");
    let rows = if of_step {
        "r.step_uuid > $1 and r.step_uuid <= tasker._last_step_uuid($1)"
    } else {
        "r.task_uuid = $1"
    };
    let values: Vec<_> = columns.iter().map(|column| value(column)).collect();
    let columns: Vec<_> = columns.iter().map(|column| quoted(column)).collect();
    format!(
        "insert into tasker.{table} ({}) select {} from unnest($2::uuid[]) with ordinality k(task_uuid, place) \
         cross join tasker.{table} r where {rows} order by k.place, r.ctid",
        columns.join(", "),
        values.join(", ")
    )
}

/// What a copied row has in a column.
fn value(column: &str) -> String {
    match column {
        // A task that was given no correlation id has its own key.
        "task_uuid" | "correlation_id" => "k.task_uuid".to_owned(),
        "step_uuid" => "tasker._step_uuid(k.task_uuid, tasker._number_of(r.step_uuid))".to_owned(),
        other => format!("r.{}", quoted(other)),
    }
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copied_row_differs_in_its_keys_alone() {
        let columns = ["step_uuid", "state"].map(str::to_owned);
        let statement = copy("steps", &columns);
        assert!(statement.starts_with(
            "insert into tasker.steps (\"step_uuid\", \"state\") \
             select tasker._step_uuid(k.task_uuid, tasker._number_of(r.step_uuid)), r.\"state\" from"
        ));
        assert!(statement.contains("r.step_uuid > $1"));
    }

    #[test]
    fn the_rows_of_a_table_without_steps_are_found_by_the_task() {
        let columns = ["task_uuid", "correlation_id"].map(str::to_owned);
        let statement = copy("tasks", &columns);
        assert!(statement.contains("select k.task_uuid, k.task_uuid from"));
        assert!(statement.contains("where r.task_uuid = $1"));
    }
}
