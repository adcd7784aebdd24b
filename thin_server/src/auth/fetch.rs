//! A document read from an address: one GET over a connection of its own, without redirects, within bounds of time and size.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use axum::body::{Body, Bytes};
use axum::http::{Request, Uri, header};
use http_body_util::{BodyExt, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::tls;

/// How long it may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How large it may be, in bytes.
const LARGEST: usize = 1024 * 1024;

/// Where a document is.
pub(super) struct Address {
    uri: Uri,
    host: String,
    port: u16,
    /// Nothing for http.
    tls: Option<TlsConnector>,
}

impl std::fmt::Debug for Address {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_tuple("Address").field(&self.uri).finish()
    }
}

impl Address {
    /// An https address, or an http one on this machine: whoever can change what is read in between could make tokens of their own.
    pub(super) fn new(url: &str, authorities: Option<&Path>) -> anyhow::Result<Self> {
        let uri: Uri = url
            .parse()
            .with_context(|| format!("{url} is no address"))?;
        let host = uri.host().with_context(|| format!("{url} names no host"))?;
        let host = host.trim_matches(['[', ']']).to_owned();
        let (tls, port) = match uri.scheme_str() {
            Some("https") => (Some(connector(authorities)?), 443),
            Some("http") => {
                let address: Option<IpAddr> = host.parse().ok();
                let is_here = host == "localhost" || address.is_some_and(|ip| ip.is_loopback());
                ensure!(is_here, "{url} must be https: it isn't on this machine");
                (None, 80)
            }
            _ => bail!("{url} must begin with https://"),
        };
        let port = uri.port_u16().unwrap_or(port);
        Ok(Self {
            uri,
            host,
            port,
            tls,
        })
    }

    /// What is there now.
    pub(super) async fn get(&self) -> anyhow::Result<Bytes> {
        let read = tokio::time::timeout(TIMEOUT, self.read());
        read.await
            .with_context(|| format!("no answer within {} s", TIMEOUT.as_secs()))?
            .with_context(|| self.uri.to_string())
    }

    async fn read(&self) -> anyhow::Result<Bytes> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
        match &self.tls {
            None => self.ask(stream).await,
            Some(tls) => {
                let name = ServerName::try_from(self.host.clone())?;
                self.ask(tls.connect(name, stream).await?).await
            }
        }
    }

    async fn ask(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    ) -> anyhow::Result<Bytes> {
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // It ends with the answer.
        tokio::spawn(connection);
        let authority = self.uri.authority().context("no host")?;
        let path = self.uri.path_and_query().map_or("/", |path| path.as_str());
        let request = Request::get(path)
            .header(header::HOST, authority.as_str())
            .header(header::ACCEPT, "application/json")
            .body(Body::empty())?;
        let response = sender.send_request(request).await?;
        ensure!(response.status().is_success(), "{}", response.status());
        let body = Limited::new(response.into_body(), LARGEST).collect().await;
        let body = body.map_err(|error| anyhow::anyhow!("{error}"))?;
        Ok(body.to_bytes())
    }
}

fn connector(authorities: Option<&Path>) -> anyhow::Result<TlsConnector> {
    let mut roots = RootCertStore {
        roots: webpki_roots::TLS_SERVER_ROOTS.to_vec(),
    };
    if let Some(file) = authorities {
        let named = || format!("--jwks-ca {}", file.display());
        let certificates = CertificateDer::pem_file_iter(file).with_context(named)?;
        for certificate in certificates {
            roots.add(certificate.with_context(named)?)?;
        }
    }
    let config = ClientConfig::builder_with_provider(tls::provider())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_https_and_this_machine_are_read_from() {
        for url in [
            "https://example.com/keys",
            "https://10.0.0.1:8443/keys",
            "http://localhost/keys",
            "http://127.0.0.1:81/keys",
            "http://[::1]:81/keys",
        ] {
            assert!(Address::new(url, None).is_ok(), "{url}");
        }
        for url in [
            "http://example.com/keys",
            "http://127.0.0.1.example.com/keys",
            "ftp://localhost/keys",
            "/keys",
            "",
            "https://",
        ] {
            assert!(Address::new(url, None).is_err(), "{url}");
        }
    }
}
