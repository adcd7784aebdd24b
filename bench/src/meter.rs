//! What the database has counted and stamped itself.

use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use serde::Serialize;
use sqlx::{Connection, Executor, FromRow, PgConnection};
use uuid::Uuid;

use crate::machine::processor_us;
use crate::stage::Stage;

const SESSIONS_END_WITHIN: Duration = Duration::from_secs(20);
const LOOKED_AT_EVERY: Duration = Duration::from_millis(20);

const COUNTERS: &str = "select (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::float8 as wal_bytes, w.wal_fpi::float8 as page_images, \
    d.xact_commit::float8 as transactions, (d.tup_inserted + d.tup_updated + d.tup_deleted)::float8 as tuples_written, \
    t.updates, t.hot_updates, t.deletes, t.dead_tuples_left \
    from pg_stat_wal w, pg_stat_database d, \
    (select sum(n_tup_upd)::float8 as updates, sum(n_tup_hot_upd)::float8 as hot_updates, sum(n_tup_del)::float8 as deletes, \
     sum(n_dead_tup)::float8 as dead_tuples_left \
     from pg_stat_user_tables where schemaname in ('tasker', 'pgmq')) t \
    where d.datname = current_database()";

const TASK_TIMES: &str = "select extract(epoch from t.finished_at - t.created_at)::float8 * 1000 as complete_ms, \
    extract(epoch from s.started_at - t.created_at)::float8 * 1000 as wake_up_ms, t.state \
    from tasker.tasks t, (select min(s.started_at) as started_at from tasker.steps s where s.step_uuid > $1 and s.step_uuid <= $2) s \
    where t.task_uuid = $1 and t.finished_at is not null";

const SPAN: &str = "select extract(epoch from (select max(t.finished_at) from tasker.tasks t where t.task_uuid between $1 and $2) - \
    (select min(s.started_at) from tasker.steps s where s.step_uuid between $1 and $2))::float8";

/// As `TASK_TIMES`, of all tasks between two keys.
const TIMES_BETWEEN: &str = "select extract(epoch from t.finished_at - t.created_at)::float8 * 1000 as complete_ms, \
    extract(epoch from s.started_at - t.created_at)::float8 * 1000 as wake_up_ms, t.state \
    from tasker.tasks t cross join lateral (select min(s.started_at) as started_at from tasker.steps s \
     where s.step_uuid > t.task_uuid and s.step_uuid <= tasker._last_step_uuid(t.task_uuid)) s \
    where t.task_uuid between $1 and $2 and t.finished_at is not null";

const LIFETIME: &str = "select extract(epoch from max(t.finished_at) - min(t.created_at))::float8 \
    from tasker.tasks t where t.task_uuid between $1 and $2";

const UNFINISHED: &str = "select count(*) from tasker.tasks t where t.task_uuid between $1 and $2 and t.finished_at is null";

/// The low bits of a step's key, which its task's has as zeros.
const STEP_BITS: u128 = (1 << 20) - 1;

/// A session that reads counters and times.
#[derive(Debug)]
pub(crate) struct Meter {
    session: PgConnection,
    outside: PgConnection,
    /// The one that is the parent of all of PostgreSQL's others.
    server_process: u32,
}

/// The counters at one moment.
#[derive(Debug, Clone, Copy, FromRow)]
pub(crate) struct Counters {
    wal_bytes: f64,
    page_images: f64,
    transactions: f64,
    tuples_written: f64,
    updates: f64,
    hot_updates: f64,
    deletes: f64,
    dead_tuples_left: f64,
    /// Not the database's count but the operating system's.
    #[sqlx(skip)]
    processor_us: f64,
}

/// What one step cost, on the average.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Costs {
    /// Microseconds of processor time, of all of PostgreSQL's processes.
    pub(crate) processor_us: f64,
    pub(crate) wal_bytes: f64,
    pub(crate) wal_page_images: f64,
    pub(crate) transactions: f64,
    pub(crate) tuples_written: f64,
    /// Each update and each delete leaves one.
    pub(crate) dead_tuples: f64,
    /// Those not pruned by the end of the drain; less than nothing when a vacuum cleared those of before.
    pub(crate) dead_tuples_left: f64,
    /// Of all updates, the share that touched no index.
    pub(crate) hot_share: f64,
}

/// The times of one task that has ended.
#[derive(Debug, Clone, FromRow)]
pub(crate) struct TaskTimes {
    /// From its creation to its end.
    pub(crate) complete_ms: f64,
    /// From its creation to the start of its first step.
    pub(crate) wake_up_ms: f64,
    pub(crate) state: String,
}

/// Lets autovacuum run or not, in the whole server: when it would, is chance.
pub(crate) async fn switch_autovacuum(session: &mut PgConnection, on: bool) -> anyhow::Result<()> {
    let setting = if on { "on" } else { "off" };
    let alter = format!("alter system set autovacuum = {setting}");
    session.execute(alter.as_str()).await?;
    session.execute("select pg_reload_conf()").await?;
    Ok(())
}

impl Counters {
    /// What happened since, shared out to so many steps.
    pub(crate) fn per_step_since(self, before: Self, steps: usize) -> Costs {
        let each = |now: f64, before: f64| (now - before) / steps as f64;
        Costs {
            processor_us: each(self.processor_us, before.processor_us),
            wal_bytes: each(self.wal_bytes, before.wal_bytes),
            wal_page_images: each(self.page_images, before.page_images),
            transactions: each(self.transactions, before.transactions),
            tuples_written: each(self.tuples_written, before.tuples_written),
            dead_tuples: each(self.updates + self.deletes, before.updates + before.deletes),
            dead_tuples_left: each(self.dead_tuples_left, before.dead_tuples_left),
            hot_share: (self.hot_updates - before.hot_updates)
                / (self.updates - before.updates).max(1.0),
        }
    }
}

impl Meter {
    pub(crate) async fn connect(stage: &Stage) -> anyhow::Result<Self> {
        Ok(Self {
            session: PgConnection::connect(&stage.url()).await?,
            outside: PgConnection::connect(&stage.outside_url()).await?,
            server_process: stage
                .cluster
                .server_process()
                .context("PostgreSQL doesn't run")?,
        })
    }

    pub(crate) async fn close(self) -> anyhow::Result<()> {
        self.session.close().await?;
        self.outside.close().await?;
        Ok(())
    }

    /// The version of the database server.
    pub(crate) async fn version(&mut self) -> anyhow::Result<String> {
        let version = sqlx::query_scalar("show server_version");
        Ok(version.fetch_one(&mut self.session).await?)
    }

    /// The counters, once every other session has ended: one that has ended has reported all it did.
    pub(crate) async fn counters(&mut self) -> anyhow::Result<Counters> {
        self.sessions_ended().await?;
        let counters: Counters = sqlx::query_as(COUNTERS)
            .fetch_one(&mut self.session)
            .await?;
        Ok(Counters {
            processor_us: self.processor_us()?,
            ..counters
        })
    }

    /// Microseconds of processor time that all of PostgreSQL's processes have used.
    pub(crate) fn processor_us(&self) -> anyhow::Result<f64> {
        processor_us(self.server_process)
    }

    async fn sessions_ended(&mut self) -> anyhow::Result<()> {
        let query = "select count(*) from pg_stat_activity where backend_type = 'client backend' \
                     and application_name like 'tasker-%'";
        let deadline = Instant::now() + SESSIONS_END_WITHIN;
        loop {
            let open: i64 = sqlx::query_scalar(query)
                .fetch_one(&mut self.outside)
                .await?;
            if open == 0 {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("{open} sessions are still there");
            }
            tokio::time::sleep(LOOKED_AT_EVERY).await;
        }
    }

    /// How many transactions the database with Tasker has seen; asked from another one.
    pub(crate) async fn transactions(&mut self) -> anyhow::Result<f64> {
        let query = "select (xact_commit + xact_rollback)::float8 from pg_stat_database where datname = 'tasker'";
        Ok(sqlx::query_scalar(query)
            .fetch_one(&mut self.outside)
            .await?)
    }

    /// Writes everything out, so that no checkpoint and no image of a whole page falls into what comes next.
    pub(crate) async fn checkpoint(&mut self) -> anyhow::Result<()> {
        self.session.execute("checkpoint").await?;
        Ok(())
    }

    /// Clears away what was left behind, so that what comes next finds the tables as a vacuumed database has them.
    pub(crate) async fn vacuum(&mut self) -> anyhow::Result<()> {
        self.session.execute("vacuum").await?;
        Ok(())
    }

    /// Lets autovacuum run or not, in the whole server.
    pub(crate) async fn switch_autovacuum(&mut self, on: bool) -> anyhow::Result<()> {
        switch_autovacuum(&mut self.session, on).await
    }

    /// The times of a task; none while it is under way.
    pub(crate) async fn task_times(
        &mut self,
        task_uuid: Uuid,
    ) -> anyhow::Result<Option<TaskTimes>> {
        Ok(sqlx::query_as(TASK_TIMES)
            .bind(task_uuid)
            .bind(last_step(task_uuid))
            .fetch_optional(&mut self.session)
            .await?)
    }

    /// The times of the tasks between two keys that have ended.
    pub(crate) async fn times_between(
        &mut self,
        first: Uuid,
        last: Uuid,
    ) -> anyhow::Result<Vec<TaskTimes>> {
        Ok(sqlx::query_as(TIMES_BETWEEN)
            .bind(first)
            .bind(last)
            .fetch_all(&mut self.session)
            .await?)
    }

    /// Waits until each task between two keys has ended.
    pub(crate) async fn wait_for_end(
        &mut self,
        first: Uuid,
        last: Uuid,
        within: Duration,
    ) -> anyhow::Result<()> {
        let deadline = Instant::now() + within;
        // The last one ends about last; asking for it alone disturbs nobody.
        while self.task_times(last).await?.is_none() || self.unfinished(first, last).await? > 0 {
            ensure!(
                Instant::now() < deadline,
                "not all tasks ended within {} s",
                within.as_secs()
            );
            tokio::time::sleep(LOOKED_AT_EVERY).await;
        }
        Ok(())
    }

    async fn unfinished(&mut self, first: Uuid, last: Uuid) -> anyhow::Result<i64> {
        Ok(sqlx::query_scalar(UNFINISHED)
            .bind(first)
            .bind(last)
            .fetch_one(&mut self.session)
            .await?)
    }

    /// The seconds from the creation of the first task to the end of the last one, of the tasks between two keys.
    pub(crate) async fn lifetime_seconds(
        &mut self,
        first: Uuid,
        last: Uuid,
    ) -> anyhow::Result<f64> {
        Ok(sqlx::query_scalar(LIFETIME)
            .bind(first)
            .bind(last)
            .fetch_one(&mut self.session)
            .await?)
    }

    /// The seconds from the start of the first step to the end of the last task, of the tasks between two keys.
    pub(crate) async fn span_seconds(&mut self, first: Uuid, last: Uuid) -> anyhow::Result<f64> {
        let seconds: f64 = sqlx::query_scalar(SPAN)
            .bind(first)
            .bind(last_step(last))
            .fetch_one(&mut self.session)
            .await?;
        ensure!(seconds > 0.0, "the drain took no time");
        Ok(seconds)
    }
}

/// The highest key that a step of the task can have.
fn last_step(task_uuid: Uuid) -> Uuid {
    Uuid::from_u128(task_uuid.as_u128() | STEP_BITS)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ZERO: Counters = Counters {
        wal_bytes: 0.0,
        page_images: 0.0,
        transactions: 0.0,
        tuples_written: 0.0,
        updates: 0.0,
        hot_updates: 0.0,
        deletes: 0.0,
        dead_tuples_left: 0.0,
        processor_us: 0.0,
    };

    #[test]
    fn costs_are_shared_out_to_the_steps_and_hot_updates_are_a_share_of_updates() {
        let now = Counters {
            wal_bytes: 3_000.0,
            updates: 8.0,
            hot_updates: 6.0,
            deletes: 2.0,
            ..ZERO
        };
        let costs = now.per_step_since(ZERO, 2);
        assert!((costs.wal_bytes - 1_500.0).abs() < 1e-9);
        assert!((costs.dead_tuples - 5.0).abs() < 1e-9);
        assert!((costs.hot_share - 0.75).abs() < 1e-9);
    }

    #[test]
    fn every_key_of_a_step_lies_between_its_task_and_the_last_step() {
        let task = Uuid::from_u128(7 << 20);
        assert_eq!(last_step(task).as_u128(), (8 << 20) - 1);
    }
}
