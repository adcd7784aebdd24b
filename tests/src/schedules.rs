//! Schedules in a scenario: made, run at a time of the moved clock, and what came of it.

use serde_json::Value;

use crate::scenario::Scenario;

/// Milliseconds, in which a scenario's clock is set.
pub const MINUTE: i64 = 60_000;
/// See [`MINUTE`].
pub const HOUR: i64 = 60 * MINUTE;
/// See [`MINUTE`].
pub const DAY: i64 = 24 * HOUR;

const REPORT: &str = "{name: report, version: 1.0.0, input_schema: {type: object, properties: {region: {type: string, default: north}}}, \
    steps: [{name: a, handler: {callable: t.a}}]}";

/// A scenario with the template `report`. The clock shows midnight of 2030-01-01 in UTC, a Tuesday.
pub async fn with_report() -> anyhow::Result<Scenario> {
    let mut sql = Scenario::new().await?;
    sql.register(REPORT).await?;
    Ok(sql)
}

/// Creates a schedule with the arguments given as SQL.
pub async fn schedule(sql: &mut Scenario, arguments: &str) -> anyhow::Result<Value> {
    sql.row(&format!(
        "select * from tasker.create_schedule({arguments})"
    ))
    .await
}

/// Runs the job at so many milliseconds after the beginning, until nothing is due, and says how many schedules it ran.
pub async fn run_at(sql: &mut Scenario, milliseconds: i64) -> anyhow::Result<i64> {
    sql.clock(milliseconds).await?;
    let mut processed = 0;
    loop {
        let job = sql
            .row("select processed, more from tasker.run_maintenance_job('run_schedules')")
            .await?;
        processed += job["processed"].as_i64().unwrap_or(0);
        if job["more"] == false {
            return Ok(processed);
        }
    }
}

/// The times for which tasks were created.
pub async fn ran(sql: &mut Scenario) -> anyhow::Result<Vec<String>> {
    let rows = sql
        .rows("select to_char(run_at at time zone 'UTC', 'MM-DD HH24:MI') as time from tasker.tasks order by run_at")
        .await?;
    let times = rows.iter().filter_map(|row| row["time"].as_str());
    Ok(times.map(str::to_owned).collect())
}

/// Columns of the one schedule, as an object.
pub async fn shown(sql: &mut Scenario, columns: &str) -> anyhow::Result<Value> {
    sql.row(&format!("select {columns} from tasker.list_schedules()"))
        .await
}

/// Whether health finds the schedules well, and what it says of them.
pub async fn health(sql: &mut Scenario) -> anyhow::Result<Value> {
    sql.value("select jsonb_build_array(ok, detail) from tasker.health() where name = 'schedules'")
        .await
}
