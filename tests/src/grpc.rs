//! Calls of gRPC by the names of methods, with JSON in and out, as a stranger would make them who has only the descriptors.

use std::collections::BTreeMap;

use anyhow::Context;
use chrono::{DateTime, SecondsFormat, Utc};
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, SerializeOptions};
use serde_json::{Map, Value};
use tasker_grpc::DESCRIPTORS;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::metadata::{AsciiMetadataKey, AsciiMetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status, Streaming};
use tonic_types::StatusExt;

use crate::program::Server;

/// Where messages of a call are written, and read by their descriptors.
#[derive(Debug, Clone)]
struct ByDescriptor(MessageDescriptor);

impl Codec for ByDescriptor {
    type Encode = Vec<u8>;
    type Decode = DynamicMessage;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        self.clone()
    }

    fn decoder(&mut self) -> Self {
        self.clone()
    }
}

impl Encoder for ByDescriptor {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        prost::bytes::BufMut::put_slice(into, &item);
        Ok(())
    }
}

impl Decoder for ByDescriptor {
    type Item = DynamicMessage;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<DynamicMessage>, Status> {
        let message = DynamicMessage::decode(self.0.clone(), from);
        message
            .map(Some)
            .map_err(|error| Status::data_loss(error.to_string()))
    }
}

/// A caller of gRPC.
#[derive(Debug, Clone)]
pub struct Grpc {
    channel: Channel,
    pool: DescriptorPool,
    metadata: BTreeMap<String, String>,
}

impl Server {
    /// A caller of its gRPC.
    pub async fn grpc(&self) -> anyhow::Result<Grpc> {
        Grpc::connect(Endpoint::from_shared(format!("http://{}", self.grpc))?).await
    }
}

impl Grpc {
    /// A caller of whatever is at an endpoint.
    pub async fn connect(endpoint: Endpoint) -> anyhow::Result<Self> {
        Ok(Self {
            channel: endpoint.connect().await?,
            pool: DescriptorPool::decode(DESCRIPTORS)?,
            metadata: BTreeMap::new(),
        })
    }

    /// The same with something more in its metadata.
    #[must_use]
    pub fn with(&self, name: &str, value: &str) -> Self {
        let mut other = self.clone();
        other.metadata.insert(name.to_owned(), value.to_owned());
        other
    }

    /// The connection, for a client that was made from the .proto files.
    #[must_use]
    pub fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// Calls a method, given as `Service/Method`.
    pub async fn call(
        &self,
        method: &str,
        request: Value,
    ) -> anyhow::Result<Result<Value, Status>> {
        let (path, bytes, codec) = self.prepared(method, request)?;
        let answer = self.send(&path, bytes, codec).await?;
        Ok(match answer {
            Ok(message) => Ok(json_of(&message)?),
            Err(status) => Err(status),
        })
    }

    /// Calls a method that must succeed.
    pub async fn get(&self, method: &str, request: Value) -> anyhow::Result<Value> {
        let answer = self.call(method, request).await?;
        answer.with_context(|| method.to_owned())
    }

    /// Calls a method that must be refused.
    pub async fn refused(&self, method: &str, request: Value) -> anyhow::Result<Status> {
        match self.call(method, request).await? {
            Ok(answer) => anyhow::bail!("{method} answered {answer}"),
            Err(status) => Ok(status),
        }
    }

    /// Calls a method by its whole path with bytes as they are; what it answers isn't read, but for a refusal.
    pub async fn send_bytes(
        &self,
        path: &str,
        bytes: Vec<u8>,
    ) -> anyhow::Result<Result<(), Status>> {
        // An answer that nobody reads needs no descriptor of its own.
        let codec = ByDescriptor(self.message("google.protobuf.Timestamp")?);
        let mut grpc = tonic::client::Grpc::new(self.channel.clone());
        grpc.ready().await?;
        let request = self.request(bytes)?;
        let opened = grpc.server_streaming(request, path.parse()?, codec).await;
        let mut answer = match opened {
            Ok(response) => response.into_inner(),
            Err(status) => return Ok(Err(status)),
        };
        // A stream may say nothing for long.
        if path.contains("/Stream") || path.ends_with("/Watch") {
            return Ok(Ok(()));
        }
        Ok(match answer.message().await {
            Err(status) if status.code() != Code::DataLoss => Err(status),
            _ => Ok(()),
        })
    }

    /// Opens a stream.
    pub async fn stream(
        &self,
        method: &str,
        request: Value,
    ) -> anyhow::Result<Result<EventMessages, Status>> {
        let (path, bytes, codec) = self.prepared(method, request)?;
        let mut grpc = tonic::client::Grpc::new(self.channel.clone());
        grpc.ready().await?;
        let request = self.request(bytes)?;
        let opened = grpc.server_streaming(request, path.parse()?, codec).await;
        Ok(opened.map(|response| EventMessages(response.into_inner())))
    }

    async fn send(
        &self,
        path: &str,
        bytes: Vec<u8>,
        codec: ByDescriptor,
    ) -> anyhow::Result<Result<DynamicMessage, Status>> {
        let mut grpc = tonic::client::Grpc::new(self.channel.clone());
        grpc.ready().await?;
        let request = self.request(bytes)?;
        let answer = grpc.unary(request, path.parse()?, codec).await;
        Ok(answer.map(tonic::Response::into_inner))
    }

    fn request(&self, bytes: Vec<u8>) -> anyhow::Result<Request<Vec<u8>>> {
        let mut request = Request::new(bytes);
        for (name, value) in &self.metadata {
            let name: AsciiMetadataKey = name.parse()?;
            let value: AsciiMetadataValue = value.parse()?;
            request.metadata_mut().insert(name, value);
        }
        Ok(request)
    }

    fn message(&self, name: &str) -> anyhow::Result<MessageDescriptor> {
        self.pool
            .get_message_by_name(name)
            .with_context(|| format!("no message {name}"))
    }

    fn prepared(
        &self,
        method: &str,
        request: Value,
    ) -> anyhow::Result<(String, Vec<u8>, ByDescriptor)> {
        let (service, name) = method.split_once('/').context("Service/Method")?;
        let service = format!("tasker.v1.{service}");
        let found = self
            .pool
            .get_service_by_name(&service)
            .and_then(|service| service.methods().find(|method| method.name() == name))
            .with_context(|| format!("no method {method}"))?;
        let request = DynamicMessage::deserialize(found.input(), request)
            .with_context(|| format!("no request of {method}"))?;
        let path = format!("/{service}/{name}");
        Ok((path, request.encode_to_vec(), ByDescriptor(found.output())))
    }
}

/// A stream of events.
#[derive(Debug)]
pub struct EventMessages(Streaming<DynamicMessage>);

impl EventMessages {
    /// The next event; nothing at the end.
    pub async fn event(&mut self) -> anyhow::Result<Option<Value>> {
        let message = self.0.message().await?;
        message.as_ref().map(json_of).transpose()
    }

    /// The events up to the end.
    pub async fn rest(&mut self) -> anyhow::Result<Vec<Value>> {
        let mut events = Vec::new();
        while let Some(event) = self.event().await? {
            events.push(event);
        }
        Ok(events)
    }

    /// How it ends after whatever events come.
    pub async fn end(&mut self) -> Result<(), Status> {
        while self.0.message().await?.is_some() {}
        Ok(())
    }
}

/// A message as JSON: its own names, fields without a value too unless they can be left out.
fn json_of(message: &DynamicMessage) -> anyhow::Result<Value> {
    let options = SerializeOptions::new()
        .use_proto_field_name(true)
        .stringify_64_bit_integers(false)
        .skip_default_fields(false);
    Ok(message.serialize_with_options(serde_json::value::Serializer, &options)?)
}

/// A message as REST would write it: JSON in its place, times in one form, and no field that is null.
#[must_use]
pub fn as_rest(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let mut plain = Map::new();
            for (name, value) in fields {
                if value.is_null() {
                    continue;
                }
                match (name.strip_suffix("_json"), value) {
                    (Some(name), Value::String(text)) => {
                        let inner: Value = serde_json::from_str(text).unwrap_or(Value::Null);
                        if !inner.is_null() {
                            plain.insert(name.to_owned(), as_rest(&inner));
                        }
                    }
                    _ => {
                        plain.insert(name.clone(), as_rest(value));
                    }
                }
            }
            Value::Object(plain)
        }
        Value::Array(items) => Value::Array(items.iter().map(as_rest).collect()),
        Value::String(text) => Value::String(time_of(text).unwrap_or_else(|| text.clone())),
        other => other.clone(),
    }
}

fn time_of(text: &str) -> Option<String> {
    let at: DateTime<Utc> = text.parse().ok()?;
    Some(at.to_rfc3339_opts(SecondsFormat::Micros, true))
}

/// The code of an error, as REST has it.
#[must_use]
pub fn code_of(status: &Status) -> String {
    let info = status.get_details_error_info();
    info.map(|info| info.reason).unwrap_or_default()
}
