//! Server-Sent Events, read from a connection of one's own: as cheap as a listener can be, so that there may be thousands.

use std::fmt::Write;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::program::Server;

/// A message comes within this, also on a machine that does much else.
const COMES_WITHIN: Duration = Duration::from_secs(30);

/// What a stream said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Message {
    /// The cursor.
    pub id: Option<String>,
    /// The name, when it has one.
    pub event: Option<String>,
    /// The data.
    pub data: String,
    /// The comments.
    pub comments: Vec<String>,
    /// When to come back, in milliseconds.
    pub retry: Option<u64>,
}

impl Message {
    /// The data as JSON.
    pub fn json(&self) -> anyhow::Result<Value> {
        serde_json::from_str(&self.data).with_context(|| format!("{self:?}"))
    }

    /// Whether it is an event, and not only a comment.
    #[must_use]
    pub fn is_event(&self) -> bool {
        !self.data.is_empty()
    }
}

/// A listener.
#[derive(Debug)]
pub struct EventStream {
    /// The status that was answered.
    pub status: u16,
    /// The headers, in lower case, one a line.
    pub headers: String,
    reader: BufReader<TcpStream>,
}

impl EventStream {
    /// Opens a stream, after an id or not. Whatever is answered, also a refusal, is a stream.
    pub async fn open(
        server: &Server,
        path: &str,
        last_event_id: Option<&str>,
    ) -> anyhow::Result<Self> {
        let header = last_event_id.map(|id| ("Last-Event-ID", id));
        Self::open_with(server, path, header.as_slice()).await
    }

    /// Opens a stream with headers of the caller's.
    pub async fn open_with(
        server: &Server,
        path: &str,
        headers: &[(&str, &str)],
    ) -> anyhow::Result<Self> {
        let address = server.url.trim_start_matches("http://");
        let mut connection = TcpStream::connect(address).await?;
        let mut header = String::new();
        for (name, value) in headers {
            write!(header, "{name}: {value}\r\n")?;
        }
        // 1.0: the body comes as it is, not in chunks.
        let request = format!(
            "GET {path} HTTP/1.0\r\nHost: {address}\r\nAccept: text/event-stream\r\n{header}\r\n"
        );
        connection.write_all(request.as_bytes()).await?;
        let mut reader = BufReader::with_capacity(1024, connection);
        let first = line(&mut reader).await?.context("no answer")?;
        let status = first.split(' ').nth(1).context("no status")?.parse()?;
        let mut headers = String::new();
        while let Some(line) = line(&mut reader).await? {
            if line.is_empty() {
                break;
            }
            headers.push_str(&line.to_lowercase());
            headers.push('\n');
        }
        Ok(Self {
            status,
            headers,
            reader,
        })
    }

    /// Opens a stream and requires that it is one, which has begun.
    pub async fn follow(
        server: &Server,
        path: &str,
        last_event_id: Option<&str>,
    ) -> anyhow::Result<Self> {
        let mut stream = Self::open(server, path, last_event_id).await?;
        ensure!(
            stream.status == 200 && stream.headers.contains("content-type: text/event-stream"),
            "{stream:?}"
        );
        let greeting = stream.message().await?.context("it ended at once")?;
        ensure!(greeting.retry.is_some(), "{greeting:?}");
        Ok(stream)
    }

    /// The next message; none when the stream has ended.
    pub async fn message(&mut self) -> anyhow::Result<Option<Message>> {
        let mut message = Message::default();
        loop {
            let Some(line) = line(&mut self.reader).await? else {
                return Ok(None);
            };
            if line.is_empty() {
                return Ok(Some(message));
            }
            let (field, value) = line.split_once(':').unwrap_or((&line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value).to_owned();
            match field {
                "" => message.comments.push(value),
                "id" => message.id = Some(value),
                "event" => message.event = Some(value),
                "data" => message.data.push_str(&value),
                "retry" => message.retry = Some(value.parse()?),
                other => bail!("unknown field {other}"),
            }
        }
    }

    /// The next event, past comments; none when the stream has ended.
    pub async fn event(&mut self) -> anyhow::Result<Option<Message>> {
        while let Some(message) = self.message().await? {
            if message.is_event() {
                return Ok(Some(message));
            }
        }
        Ok(None)
    }

    /// So many events.
    pub async fn events(&mut self, count: usize) -> anyhow::Result<Vec<Message>> {
        let mut events = Vec::with_capacity(count);
        while events.len() < count {
            let event = self.event().await?;
            events.push(event.with_context(|| format!("it ended after {}", events.len()))?);
        }
        Ok(events)
    }

    /// All messages until the stream ends.
    pub async fn rest(&mut self) -> anyhow::Result<Vec<Message>> {
        let mut messages = Vec::new();
        while let Some(message) = self.message().await? {
            messages.push(message);
        }
        Ok(messages)
    }
}

/// A line without its end; none at the end of the connection.
async fn line(reader: &mut BufReader<TcpStream>) -> anyhow::Result<Option<String>> {
    let mut line = String::new();
    let read = tokio::time::timeout(COMES_WITHIN, reader.read_line(&mut line))
        .await
        .context("nothing came in time")??;
    Ok((read > 0).then(|| line.trim_end_matches(['\r', '\n']).to_owned()))
}
