//! What the engine costs, counted by the database itself.

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use sqlx::{Connection, Executor, PgConnection};

use crate::cluster::{OwnCluster, has_statement_statistics};

/// What some work took.
#[derive(Debug, Clone, Copy)]
pub struct Spent {
    /// Committed.
    pub transactions: i64,
    /// Also those inside functions; none where the PostgreSQL has no `pg_stat_statements`.
    pub statements: Option<i64>,
    /// Without images of whole pages.
    pub wal_bytes: i64,
    /// Inserted, updated and deleted in Tasker's and PGMQ's tables.
    pub tuples_written: i64,
}

/// A PostgreSQL where nothing runs but the one session whose work is counted.
#[derive(Debug)]
pub struct Counting {
    own: OwnCluster,
    worker: PgConnection,
    counter: PgConnection,
}

impl Counting {
    /// Starts it. Nothing is analysed or vacuumed but by the test.
    pub async fn start() -> anyhow::Result<Self> {
        let own = OwnCluster::start().await?;
        let mut counter = PgConnection::connect(&own.url()).await?;
        counter.execute("alter system set autovacuum = off").await?;
        // Images of whole pages come after each checkpoint, so by chance: without them the WAL is the same every time.
        counter
            .execute("alter system set full_page_writes = off")
            .await?;
        counter.execute("select pg_reload_conf()").await?;
        let worker = PgConnection::connect(&own.url()).await?;
        Ok(Self {
            own,
            worker,
            counter,
        })
    }

    /// The session whose work is counted.
    pub fn worker(&mut self) -> &mut PgConnection {
        &mut self.worker
    }

    /// Another session, whose work isn't to be counted.
    pub async fn another(&self) -> anyhow::Result<PgConnection> {
        Ok(PgConnection::connect(&self.own.url()).await?)
    }

    /// Goes on in a new session, with no plan kept.
    pub async fn reconnect(&mut self) -> anyhow::Result<()> {
        // What a session that ends has not reported yet would come at some later moment.
        self.flush().await?;
        let new = PgConnection::connect(&self.own.url()).await?;
        std::mem::replace(&mut self.worker, new).close().await?;
        Ok(())
    }

    /// Registers a template written in YAML.
    pub async fn register(&mut self, yaml: &str) -> anyhow::Result<()> {
        sqlx::query("select tasker.register_template($1::text)")
            .bind(yaml)
            .execute(&mut self.worker)
            .await?;
        Ok(())
    }

    /// Creates as many tasks in one call.
    pub async fn create(&mut self, template: &str, tasks: usize) -> anyhow::Result<()> {
        let requests = vec![json!({"template_name": template}); tasks];
        let created = sqlx::query("select * from tasker.create_tasks($1)")
            .bind(Value::Array(requests))
            .fetch_all(&mut self.worker)
            .await?;
        ensure!(created.len() == tasks, "{} created", created.len());
        Ok(())
    }

    /// Claims up to so many steps.
    pub async fn claim(&mut self, steps: usize) -> anyhow::Result<Vec<Value>> {
        let query = "select jsonb_build_object('step_uuid', c.step_uuid, 'attempt', c.attempt) from tasker.claim_steps('w', '{default}', $1) c";
        Ok(sqlx::query_scalar(query)
            .bind(steps as i32)
            .fetch_all(&mut self.worker)
            .await?)
    }

    /// Completes steps and claims up to so many.
    pub async fn finish(&mut self, steps: &[Value], next: usize) -> anyhow::Result<Vec<Value>> {
        self.report(
            steps,
            &json!({"status": "complete", "result": {"n": 1}}),
            next,
        )
        .await
    }

    /// Reports one and the same outcome of all the steps and claims up to so many.
    pub async fn report(
        &mut self,
        steps: &[Value],
        outcome: &Value,
        next: usize,
    ) -> anyhow::Result<Vec<Value>> {
        let mut outcomes = Vec::new();
        for step in steps {
            let mut outcome = outcome.clone();
            outcome["step_uuid"] = step["step_uuid"].clone();
            outcome["attempt"] = step["attempt"].clone();
            outcomes.push(outcome);
        }
        let query = "select verdicts, coalesce((select jsonb_agg(jsonb_build_object('step_uuid', c.step_uuid, 'attempt', c.attempt)) from unnest(claimed) c), '[]') \
                     from tasker.finish_steps('w', $1, $2, namespaces => '{default}')";
        let (verdicts, claimed): (Value, Value) = sqlx::query_as(query)
            .bind(Value::Array(outcomes))
            .bind(next as i32)
            .fetch_one(&mut self.worker)
            .await?;
        let verdicts = verdicts.as_array().context("no verdicts")?;
        let refused = verdicts
            .iter()
            .find(|verdict| verdict["verdict"] != "accepted");
        ensure!(refused.is_none(), "{refused:?}");
        ensure!(verdicts.len() == steps.len(), "{} verdicts", verdicts.len());
        claimed.as_array().cloned().context("no claims")
    }

    /// Works until nothing is left, as a busy worker does; gives the number of steps done.
    pub async fn drain(&mut self, batch: usize) -> anyhow::Result<usize> {
        let (mut held, mut done) = (self.claim(batch).await?, 0);
        while !held.is_empty() {
            done += held.len();
            held = self.finish(&held, batch).await?;
        }
        Ok(done)
    }

    /// Does some work and says what it took.
    pub async fn spend(
        &mut self,
        work: impl AsyncFnOnce(&mut Self) -> anyhow::Result<()>,
    ) -> anyhow::Result<Spent> {
        // Asking takes something as well: the same each time, but the first, when the questions are prepared.
        self.counters().await?;
        let asked = self.counters().await?;
        let before = self.counters().await?;
        work(self).await?;
        let after = self.counters().await?;
        let spent = |count: fn(&Spent) -> i64| {
            let asking = count(&before) - count(&asked);
            count(&after) - count(&before) - asking
        };
        Ok(Spent {
            transactions: spent(|counters| counters.transactions),
            statements: before
                .statements
                .map(|_| spent(|counters| counters.statements.unwrap_or_default())),
            wal_bytes: spent(|counters| counters.wal_bytes),
            tuples_written: spent(|counters| counters.tuples_written),
        })
    }

    /// What everything so far took, with the asking.
    async fn counters(&mut self) -> anyhow::Result<Spent> {
        let statements = if has_statement_statistics()? {
            Some(self.statements().await?)
        } else {
            None
        };
        let transactions = self.commits().await?;
        let query = "select (pg_current_wal_insert_lsn() - '0/0')::bigint, (select sum(n_tup_ins + n_tup_upd + n_tup_del)::bigint \
                     from pg_stat_user_tables where schemaname in ('tasker', 'pgmq'))";
        let (wal_bytes, tuples_written) =
            sqlx::query_as(query).fetch_one(&mut self.counter).await?;
        Ok(Spent {
            transactions,
            statements,
            wal_bytes,
            tuples_written,
        })
    }

    /// How many transactions were committed so far, with those of asking.
    pub async fn commits(&mut self) -> anyhow::Result<i64> {
        self.flush().await?;
        // From another database, whose transactions are not among those counted.
        let mut outside = PgConnection::connect(&self.own.cluster.url("postgres")).await?;
        let query = "select xact_commit from pg_stat_database where datname = 'tasker'";
        let commits = sqlx::query_scalar(query).fetch_one(&mut outside).await?;
        outside.close().await?;
        Ok(commits)
    }

    /// Forgets the statements counted so far.
    pub async fn forget_statements(&mut self) -> anyhow::Result<()> {
        self.counter
            .execute("select pg_stat_statements_reset()")
            .await?;
        Ok(())
    }

    /// How many statements, also those inside functions, the worker's session ran since they were last forgotten.
    pub async fn statements(&mut self) -> anyhow::Result<i64> {
        let query = "select coalesce(sum(calls), 0)::bigint from pg_stat_statements where query not like '%pg_stat_%'";
        Ok(sqlx::query_scalar(query)
            .fetch_one(&mut self.counter)
            .await?)
    }

    /// How many blocks the worker's calls touched since statements were last forgotten.
    pub async fn blocks(&mut self) -> anyhow::Result<i64> {
        let query = "select coalesce(sum(shared_blks_hit + shared_blks_read), 0)::bigint from pg_stat_statements \
                     where toplevel and query not like '%pg_stat_%'";
        Ok(sqlx::query_scalar(query)
            .fetch_one(&mut self.counter)
            .await?)
    }

    /// How many rows of the tables whose names match a regular expression were updated so far, and how many of them stayed on their page without a change of an index.
    pub async fn updates(&mut self, tables: &str) -> anyhow::Result<[i64; 2]> {
        self.flush().await?;
        let query = "select array[sum(n_tup_upd), sum(n_tup_hot_upd)]::bigint[] from pg_stat_user_tables \
                     where schemaname in ('tasker', 'pgmq') and relname ~ $1";
        let updates: Vec<i64> = sqlx::query_scalar(query)
            .bind(tables)
            .fetch_one(&mut self.counter)
            .await?;
        updates.try_into().ok().context("no updates")
    }

    /// How often each table that grows with the work was scanned from end to end.
    pub async fn scans(&mut self) -> anyhow::Result<Value> {
        self.flush().await?;
        let query = "select jsonb_object_agg(relname, seq_scan) from pg_stat_user_tables where schemaname = 'pgmq' and relname like 'q\\_%' \
                     or schemaname = 'tasker' and (relname ~ '^(tasks|steps|step_transitions|task_transitions)_p' or relname in ('finish_requests', 'idempotency_keys'))";
        Ok(sqlx::query_scalar(query)
            .fetch_one(&mut self.counter)
            .await?)
    }

    /// Makes the sessions report what they have counted.
    async fn flush(&mut self) -> anyhow::Result<()> {
        for session in [&mut self.worker, &mut self.counter] {
            // A session that has touched no table reports nothing. The report is made before the server says that it is ready again.
            session
                .execute("select pg_stat_force_next_flush(), count(*) from tasker.namespaces")
                .await?;
            session.ping().await?;
        }
        Ok(())
    }
}
