//! What is left of a client's connections once it is closed.

use std::time::{Duration, Instant};

use sqlx::{Connection, PgConnection};
use tasker_client::{Client, ConnectOptions};
use tasker_tests::TestDatabase;

const NAME: &str = "closed";
const ENDED_WITHIN: Duration = Duration::from_secs(10);

/// Waits until the clients' sessions have ended; says how many haven't.
async fn left(watcher: &mut PgConnection) -> anyhow::Result<i64> {
    let query = "select count(*) from pg_stat_activity where datname = current_database() and application_name = $1";
    let deadline = Instant::now() + ENDED_WITHIN;
    loop {
        let open: i64 = sqlx::query_scalar(query)
            .bind(NAME)
            .fetch_one(&mut *watcher)
            .await?;
        if open == 0 || Instant::now() > deadline {
            return Ok(open);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_is_closed_right_after_a_call_leaves_no_session() -> anyhow::Result<()> {
    let database = TestDatabase::new().await?;
    let mut watcher = PgConnection::connect(database.url()).await?;
    // Kept, as whoever holds one keeps it: what is dropped closes its sessions anyway.
    let mut closed = Vec::new();
    for max_connections in [1, 2, 1, 2, 1, 2, 1, 2, 1, 2, 1, 2] {
        let options = ConnectOptions {
            max_connections,
            application_name: NAME.to_owned(),
            ..ConnectOptions::default()
        };
        let client = Client::connect(database.url(), options).await?;
        client.wait_for_connection().await?;
        client.close().await;
        closed.push(client);
    }
    assert_eq!(left(&mut watcher).await?, 0);
    Ok(())
}
