//! A batch's way to the collector: one POST over a connection of its own, within a bound of time.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper::header::HOST;
use hyper::http::HeaderValue;
use hyper::{Uri, body};
use hyper_util::rt::TokioIo;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio_rustls::TlsConnector;

use crate::options::TraceSetupError;

/// An answer longer than this isn't one of a collector.
const LONGEST_ANSWER: usize = 64 * 1024;

/// Sends batches from the thread that gathers them, by the program's own runtime.
pub(crate) struct Sender {
    runtime: Handle,
    collector: Arc<Collector>,
    timeout: Duration,
    /// The last batch was dropped: the log has been told.
    fails: AtomicBool,
}

/// Where spans are sent.
struct Collector {
    host: String,
    port: u16,
    /// As a request names it.
    authority: HeaderValue,
    /// Nothing for http.
    tls: Option<TlsConnector>,
}

impl std::fmt::Debug for Sender {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Collector { host, port, .. } = &*self.collector;
        out.debug_struct("Sender")
            .field("host", host)
            .field("port", port)
            .finish_non_exhaustive()
    }
}

impl Sender {
    /// To be made within the runtime.
    pub(crate) fn new(
        url: &str,
        authorities: Option<&Path>,
        timeout: Duration,
    ) -> Result<Self, TraceSetupError> {
        Ok(Self {
            runtime: Handle::current(),
            collector: Arc::new(Collector::new(url, authorities)?),
            timeout,
            fails: AtomicBool::new(false),
        })
    }

    /// Tells the log when spans begin to be dropped, and when they are taken again.
    fn tell(&self, answer: &Result<Response<Bytes>, HttpError>) {
        let problem = match answer {
            Ok(response) if response.status().is_success() => None,
            Ok(response) => Some(response.status().to_string()),
            Err(error) => Some(error.to_string()),
        };
        let failed_before = self.fails.swap(problem.is_some(), Ordering::Relaxed);
        match problem {
            Some(problem) if !failed_before => {
                tracing::warn!(
                    problem,
                    "spans can't be sent to the collector: they are dropped"
                );
            }
            None if failed_before => tracing::info!("the collector takes spans again"),
            _ => {}
        }
    }
}

#[async_trait]
impl HttpClient for Sender {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let (collector, timeout) = (Arc::clone(&self.collector), self.timeout);
        let sent = self.runtime.spawn(async move {
            match tokio::time::timeout(timeout, collector.send(request)).await {
                Ok(answer) => answer,
                Err(_) => Err(format!("no answer within {} ms", timeout.as_millis()).into()),
            }
        });
        let answer = sent.await.unwrap_or_else(|stopped| Err(stopped.into()));
        self.tell(&answer);
        answer
    }
}

impl Collector {
    fn new(url: &str, authorities: Option<&Path>) -> Result<Self, TraceSetupError> {
        let refused = |reason: &str| TraceSetupError::Endpoint {
            url: url.trim_end_matches("/v1/traces").to_owned(),
            reason: reason.to_owned(),
        };
        let uri: Uri = url.parse().map_err(|_| refused("it is none"))?;
        let authority = uri.authority().ok_or_else(|| refused("it names no host"))?;
        let host = authority.host().trim_matches(['[', ']']);
        if host.is_empty() || authority.as_str().contains('@') {
            return Err(refused("a host and a port are all that it may name"));
        }
        let (tls, port) = match uri.scheme_str() {
            Some("https") => (Some(connector(authorities)?), 443),
            Some("http") => (None, 80),
            _ => return Err(refused("http or https")),
        };
        Ok(Self {
            host: host.to_owned(),
            port: uri.port_u16().unwrap_or(port),
            authority: HeaderValue::from_str(authority.as_str())
                .map_err(|_| refused("it names no host"))?,
            tls,
        })
    }

    async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
        match &self.tls {
            None => self.ask(stream, request).await,
            Some(tls) => {
                let name = ServerName::try_from(self.host.clone())?;
                self.ask(tls.connect(name, stream).await?, request).await
            }
        }
    }

    async fn ask(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        request: Request<Bytes>,
    ) -> Result<Response<Bytes>, HttpError> {
        let (mut sender, connection) =
            http1::handshake::<_, Full<body::Bytes>>(TokioIo::new(stream)).await?;
        // It ends with the answer.
        tokio::spawn(connection);
        let (mut head, spans) = request.into_parts();
        let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
        head.uri = path.parse()?;
        head.headers.insert(HOST, self.authority.clone());
        let response = sender
            .send_request(Request::from_parts(head, Full::new(spans)))
            .await?;
        let (head, answer) = response.into_parts();
        let answer = Limited::new(answer, LONGEST_ANSWER).collect().await?;
        Ok(Response::from_parts(head, answer.to_bytes()))
    }
}

fn connector(authorities: Option<&Path>) -> Result<TlsConnector, TraceSetupError> {
    let mut roots = RootCertStore {
        roots: webpki_roots::TLS_SERVER_ROOTS.to_vec(),
    };
    if let Some(file) = authorities {
        let refused = |reason: String| TraceSetupError::Authorities {
            file: file.to_owned(),
            reason,
        };
        let certificates =
            CertificateDer::pem_file_iter(file).map_err(|error| refused(error.to_string()))?;
        for certificate in certificates {
            let certificate = certificate.map_err(|error| refused(error.to_string()))?;
            roots
                .add(certificate)
                .map_err(|error| refused(error.to_string()))?;
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| TraceSetupError::Refused(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_collector_is_named_by_http_or_https_and_a_host() {
        for (url, host, port) in [
            ("http://localhost:4318/v1/traces", "localhost", 4318),
            (
                "https://collector.internal/v1/traces",
                "collector.internal",
                443,
            ),
            ("http://[::1]:4318/otlp/v1/traces", "::1", 4318),
        ] {
            let collector = Collector::new(url, None).expect(url);
            assert_eq!((collector.host.as_str(), collector.port), (host, port));
        }
        for url in [
            "localhost:4318/v1/traces",
            "collector/v1/traces",
            "grpc://collector:4317/v1/traces",
            "http:///v1/traces",
            "http://me@collector/v1/traces",
            "/v1/traces",
        ] {
            assert!(Collector::new(url, None).is_err(), "{url}");
        }
    }
}
