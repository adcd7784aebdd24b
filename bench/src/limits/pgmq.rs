//! PGMQ's raw round by its own functions: send, read, delete, each call a commit.

use anyhow::ensure;
use sqlx::{Connection, PgConnection};

use super::rounds::{HUNDRED, Queue, QueueRounds, measure};
use crate::options::Extent;
use crate::stage::Stage;

const QUEUE: &str = "bench_raw";

/// On one connection.
pub(crate) async fn rounds(stage: &Stage, extent: Extent) -> anyhow::Result<QueueRounds> {
    let mut session = PgConnection::connect(&stage.url()).await?;
    sqlx::query("select pgmq.create($1)")
        .bind(QUEUE)
        .execute(&mut session)
        .await?;
    let measured = measure(&mut session, extent.queue_rounds).await?;
    sqlx::query("select pgmq.drop_queue($1)")
        .bind(QUEUE)
        .execute(&mut session)
        .await?;
    session.close().await?;
    Ok(measured)
}

impl Queue for PgConnection {
    async fn one(&mut self) -> anyhow::Result<()> {
        one_message(self).await
    }

    async fn hundred(&mut self) -> anyhow::Result<()> {
        hundred_messages(self).await
    }
}

async fn one_message(session: &mut PgConnection) -> anyhow::Result<()> {
    sqlx::query("select pgmq.send($1, '{\"n\": 1}'::jsonb)")
        .bind(QUEUE)
        .execute(&mut *session)
        .await?;
    let read: Vec<i64> = read(session, 1).await?;
    ensure!(read.len() == 1, "the message wasn't there");
    sqlx::query("select pgmq.delete($1, $2::bigint)")
        .bind(QUEUE)
        .bind(read[0])
        .execute(session)
        .await?;
    Ok(())
}

async fn hundred_messages(session: &mut PgConnection) -> anyhow::Result<()> {
    sqlx::query("select pgmq.send_batch($1, array_fill('{\"n\": 1}'::jsonb, array[$2]))")
        .bind(QUEUE)
        .bind(HUNDRED as i32)
        .execute(&mut *session)
        .await?;
    let read = read(session, HUNDRED).await?;
    ensure!(read.len() == HUNDRED, "{} messages were there", read.len());
    sqlx::query("select pgmq.delete($1, $2::bigint[])")
        .bind(QUEUE)
        .bind(read)
        .execute(session)
        .await?;
    Ok(())
}

async fn read(session: &mut PgConnection, count: usize) -> anyhow::Result<Vec<i64>> {
    Ok(
        sqlx::query_scalar("select msg_id from pgmq.read($1, 30, $2)")
            .bind(QUEUE)
            .bind(count as i32)
            .fetch_all(session)
            .await?,
    )
}
