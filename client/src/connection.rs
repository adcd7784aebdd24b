//! The connection pool behind a [`Client`].

use std::time::Duration;

use sqlx::postgres::types::PgInterval;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{Connection, PgPool};

use crate::acting;
use crate::error::Error;
use crate::traced::Traced;

/// A connection that lay idle for longer than this is tested before it is used; a busy caller pays no round trip for it.
pub(crate) const TEST_AFTER_IDLE: Duration = Duration::from_secs(1);

/// How a [`Client`] connects.
#[derive(Debug, Clone)]
pub struct ConnectOptions {
    /// The most connections held at once.
    pub max_connections: u32,
    /// Shown in `pg_stat_activity`.
    pub application_name: String,
    /// How long a call waits for a connection, also while the database is away, before it fails.
    pub acquire_timeout: Duration,
    /// PostgreSQL's `statement_timeout` for every statement; `None` leaves the database's own setting.
    pub statement_timeout: Option<Duration>,
}

impl Default for ConnectOptions {
    fn default() -> Self {
        Self {
            max_connections: 5,
            application_name: "tasker-client".to_owned(),
            acquire_timeout: Duration::from_secs(10),
            statement_timeout: None,
        }
    }
}

/// The door to a Tasker database. Cheap to clone: all clones share one pool.
#[derive(Debug, Clone)]
pub struct Client {
    pool: Traced,
}

impl Client {
    /// Connects, and fails when the database can't be reached within `acquire_timeout`.
    pub async fn connect(url: &str, options: ConnectOptions) -> Result<Self, Error> {
        let (pool, connect) = pool_options(url, &options)?;
        Ok(Self {
            pool: pool.connect_with(connect).await?.into(),
        })
    }

    /// Makes a client that connects at its first call, for programs that must start while the database is away.
    /// Fails only when `url` can't be read.
    pub fn connect_lazy(url: &str, options: &ConnectOptions) -> Result<Self, Error> {
        let (pool, connect) = pool_options(url, options)?;
        Ok(Self {
            pool: pool.connect_lazy_with(connect).into(),
        })
    }

    /// The same for a program whose calls are made for callers of its own, each in an [`Acting`](crate::Acting): whenever a connection is handed out, the database is told for whom. That is a
    /// statement more for each, and an older extension, which knows of no callers, serves none. Between here and the database there must be nothing that lends one session to
    /// several connections.
    pub fn connect_lazy_serving(url: &str, options: &ConnectOptions) -> Result<Self, Error> {
        let (pool, connect) = pool_options(url, options)?;
        let pool = pool
            .after_connect(|connection, _| Box::pin(acting::serve(connection)))
            .before_acquire(|connection, _| {
                Box::pin(async move {
                    acting::serve(connection).await?;
                    Ok(true)
                })
            });
        Ok(Self {
            pool: pool.connect_lazy_with(connect).into(),
        })
    }

    /// Uses a pool that the application has already.
    #[must_use]
    pub fn from_pool(pool: PgPool) -> Self {
        Self { pool: pool.into() }
    }

    /// The pool itself, for an application that creates tasks in its own transactions.
    #[must_use]
    pub fn pool(&self) -> &Traced {
        &self.pool
    }

    /// How many connections there are, how many of them lie idle, and how many there may be.
    #[must_use]
    pub fn connection_counts(&self) -> (u32, u32, u32) {
        let idle = u32::try_from(self.pool.num_idle()).unwrap_or(u32::MAX);
        let most = self.pool.options().get_max_connections();
        (self.pool.size(), idle, most)
    }

    /// Waits until a connection can be had, and gives it back at once: what a call that began now would wait before the database is asked.
    pub async fn wait_for_connection(&self) -> Result<(), Error> {
        self.pool.acquire().await?;
        Ok(())
    }

    /// Closes all connections; calls under way finish first.
    pub async fn close(&self) {
        self.pool.close().await;
        // sqlx 0.8 overlooks a connection that is given back while it waits for the last one: by then it is among those that lie idle, and this closes it.
        self.pool.close().await;
    }
}

fn pool_options(
    url: &str,
    options: &ConnectOptions,
) -> Result<(PgPoolOptions, PgConnectOptions), Error> {
    let mut connect: PgConnectOptions = url.parse()?;
    connect = connect.application_name(&options.application_name);
    if let Some(timeout) = options.statement_timeout {
        connect = connect.options([("statement_timeout", timeout.as_millis().to_string())]);
    }
    let pool = PgPoolOptions::new()
        .max_connections(options.max_connections.max(1))
        .acquire_timeout(options.acquire_timeout)
        .test_before_acquire(false)
        .before_acquire(|connection, meta| {
            Box::pin(async move {
                if meta.idle_for > TEST_AFTER_IDLE {
                    connection.ping().await?;
                }
                Ok(true)
            })
        });
    Ok((pool, connect))
}

/// PostgreSQL keeps microseconds; what is finer is cut off.
pub(crate) fn interval(duration: Duration) -> PgInterval {
    PgInterval {
        months: 0,
        days: 0,
        microseconds: i64::try_from(duration.as_micros()).unwrap_or(i64::MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_that_cannot_be_read_is_an_error_before_any_connection() {
        let error = Client::connect_lazy("not a url", &ConnectOptions::default());
        assert!(error.is_err());
    }

    #[test]
    fn a_duration_becomes_microseconds_and_an_absurd_one_the_longest() {
        assert_eq!(interval(Duration::from_nanos(1_500)).microseconds, 1);
        assert_eq!(interval(Duration::MAX).microseconds, i64::MAX);
    }
}
