//! Where spans are sent: it takes OTLP over HTTP and keeps what it is given.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::Span as Sent;
use prost::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::waiting::eventually;

/// A program sends what it has every five seconds.
const SENT_WITHIN: Duration = Duration::from_secs(30);

/// A span as it was sent.
#[derive(Debug, Clone)]
pub struct Span {
    /// The program that it is of.
    pub service: String,
    /// Its name.
    pub name: String,
    /// 1 internal, 2 server, 3 client, 4 producer, 5 consumer.
    pub kind: i32,
    /// The trace, in 32 digits.
    pub trace_id: String,
    /// The span, in 16 digits.
    pub span_id: String,
    /// Its parent; empty without.
    pub parent_id: String,
    /// 2 for one that failed.
    pub status: i32,
    /// The spans that it links to.
    pub links: Vec<String>,
    attributes: BTreeMap<String, String>,
}

impl Span {
    /// An attribute as text; empty where it has none of that name.
    #[must_use]
    pub fn attribute(&self, name: &str) -> &str {
        self.attributes.get(name).map_or("", String::as_str)
    }
}

/// A collector on a port of its own, as long as the test runs.
#[derive(Debug)]
pub struct Collector {
    /// Its address.
    pub url: String,
    kept: Arc<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    spans: Mutex<Vec<Span>>,
    connections: AtomicUsize,
}

impl Collector {
    /// One that takes whatever it is sent.
    pub async fn start() -> anyhow::Result<Self> {
        Self::serving(true).await
    }

    /// One that takes connections and never answers.
    pub async fn silent() -> anyhow::Result<Self> {
        Self::serving(false).await
    }

    async fn serving(answers: bool) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let kept = Arc::new(Kept::default());
        let keeping = Arc::clone(&kept);
        tokio::spawn(async move {
            let mut held = Vec::new();
            while let Ok((stream, _)) = listener.accept().await {
                keeping.connections.fetch_add(1, Ordering::Relaxed);
                if answers {
                    let keeping = Arc::clone(&keeping);
                    tokio::spawn(async move { keeping.take(stream).await });
                } else {
                    held.push(stream);
                }
            }
        });
        Ok(Self { url, kept })
    }

    /// How many connections were made to it.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.kept.connections.load(Ordering::Relaxed)
    }

    /// What it was sent so far.
    #[must_use]
    pub fn spans(&self) -> Vec<Span> {
        let spans = self.kept.spans.lock();
        spans.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The spans that a test picks, when there are as many as it expects.
    pub async fn picked(
        &self,
        count: usize,
        pick: impl Fn(&Span) -> bool,
    ) -> anyhow::Result<Vec<Span>> {
        let mut last = Vec::new();
        let what = format!("{count} spans");
        let found = eventually(&what, SENT_WITHIN, async || {
            last = self.spans();
            let picked: Vec<Span> = last.iter().filter(|span| pick(span)).cloned().collect();
            Ok((picked.len() >= count).then_some(picked))
        });
        let found = found.await;
        found.with_context(|| format!("there were {last:#?}"))
    }
}

impl Kept {
    /// Takes one request, keeps its spans, answers that all is well.
    async fn take(&self, mut stream: TcpStream) -> anyhow::Result<()> {
        let mut request = Vec::new();
        let body = loop {
            anyhow::ensure!(stream.read_buf(&mut request).await? > 0, "half a request");
            if let Some(body) = body_of(&request)? {
                break body;
            }
        };
        self.keep(ExportTraceServiceRequest::decode(body)?);
        let answer = "HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
        Ok(stream.write_all(answer.as_bytes()).await?)
    }

    fn keep(&self, request: ExportTraceServiceRequest) {
        let mut spans = self.spans.lock().unwrap_or_else(PoisonError::into_inner);
        for resource in request.resource_spans {
            let about = resource.resource.map(|about| about.attributes);
            let about = attributes(about.unwrap_or_default());
            let service = about.get("service.name").cloned().unwrap_or_default();
            let sent = resource
                .scope_spans
                .into_iter()
                .flat_map(|scope| scope.spans);
            spans.extend(sent.map(|span| span_of(span, &service)));
        }
    }
}

/// The body of a request for traces, if all of it has come.
fn body_of(request: &[u8]) -> anyhow::Result<Option<&[u8]>> {
    let Some(end) = request.windows(4).position(|four| four == b"\r\n\r\n") else {
        return Ok(None);
    };
    let head = std::str::from_utf8(&request[..end])?.to_lowercase();
    anyhow::ensure!(head.starts_with("post /v1/traces http/1.1\r\n"), "{head}");
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "))
        .context("no length")?;
    Ok(request[end + 4..].get(..length.parse()?))
}

fn span_of(span: Sent, service: &str) -> Span {
    Span {
        service: service.to_owned(),
        name: span.name,
        kind: span.kind,
        trace_id: hex(&span.trace_id),
        span_id: hex(&span.span_id),
        parent_id: hex(&span.parent_span_id),
        status: span.status.map_or(0, |status| status.code),
        links: span.links.iter().map(|link| hex(&link.span_id)).collect(),
        attributes: attributes(span.attributes),
    }
}

fn hex(bytes: &[u8]) -> String {
    let digits: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    digits.concat()
}

fn attributes(list: Vec<KeyValue>) -> BTreeMap<String, String> {
    list.into_iter()
        .map(|attribute| (attribute.key, text_of(attribute.value)))
        .collect()
}

fn text_of(value: Option<AnyValue>) -> String {
    match value.and_then(|value| value.value) {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::BoolValue(truth)) => truth.to_string(),
        other => format!("{other:?}"),
    }
}
