//! Waiting until the server answers that it is ready.

use std::time::Duration;

use anyhow::Context;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const ASKED_EVERY: Duration = Duration::from_millis(50);
const QUESTION: &[u8] =
    b"GET /health/ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

pub(crate) async fn wait_for_server(port: u16, within: Duration) -> anyhow::Result<()> {
    tokio::time::timeout(within, async {
        while !is_ready(port).await {
            tokio::time::sleep(ASKED_EVERY).await;
        }
    })
    .await
    .with_context(|| format!("the server isn't ready after {} s", within.as_secs()))
}

async fn is_ready(port: u16) -> bool {
    let mut answer = Vec::new();
    let asked: std::io::Result<()> = async {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.write_all(QUESTION).await?;
        stream.read_to_end(&mut answer).await?;
        Ok(())
    }
    .await;
    asked.is_ok() && answer.starts_with(b"HTTP/1.1 200")
}
