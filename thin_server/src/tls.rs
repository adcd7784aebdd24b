//! TLS on the address that is listened on: certificate and key from files, read again when they change.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::serve::Listener;
use rustls::ServerConfig;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::patience::{Patient, PatientListener};

/// How often the files are looked at.
const LOOKED_EVERY: Duration = Duration::from_secs(2);
/// How long a caller may take to agree on a key.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How many callers may be agreeing on a key at once; the others wait in the system's queue.
const MOST_HANDSHAKES: usize = 256;

/// TLS, and from which files.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "TLS")]
pub(crate) struct TlsOptions {
    /// Serve https with this certificate: a PEM file, followed by those of the authorities between it and the root; read again when it changes
    #[arg(
        long,
        env = "TASKER_TLS_CERTIFICATE",
        value_name = "FILE",
        requires = "tls_key"
    )]
    pub(crate) tls_certificate: Option<PathBuf>,

    /// The certificate's private key: a PEM file
    #[arg(
        long,
        env = "TASKER_TLS_KEY",
        value_name = "FILE",
        requires = "tls_certificate"
    )]
    pub(crate) tls_key: Option<PathBuf>,
}

impl TlsOptions {
    /// Whether https is served.
    pub(crate) fn is_on(&self) -> bool {
        self.tls_certificate.is_some()
    }

    /// The files, read and usable; nothing where no TLS is spoken.
    pub(crate) fn files(&self) -> anyhow::Result<Option<Files>> {
        let (Some(certificate), Some(key)) = (&self.tls_certificate, &self.tls_key) else {
            return Ok(None);
        };
        let files = Files::read(certificate, key)?;
        files.config()?;
        Ok(Some(files))
    }
}

/// What cryptography is done with.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// The files as they were read.
#[derive(Debug, Clone)]
pub(crate) struct Files {
    certificate: PathBuf,
    key: PathBuf,
    read: [Vec<u8>; 2],
    /// What is spoken over TLS, as both sides agree on it.
    protocol: &'static [u8],
}

impl Files {
    /// The same for a listener that speaks HTTP/2 only.
    pub(crate) fn for_http2(self) -> Self {
        Self {
            protocol: b"h2",
            ..self
        }
    }

    /// As they are now.
    fn again(&self) -> anyhow::Result<Self> {
        Ok(Self {
            protocol: self.protocol,
            ..Self::read(&self.certificate, &self.key)?
        })
    }

    fn read(certificate: &Path, key: &Path) -> anyhow::Result<Self> {
        let read = |file: &Path| std::fs::read(file).with_context(|| file.display().to_string());
        Ok(Self {
            certificate: certificate.to_owned(),
            key: key.to_owned(),
            read: [read(certificate)?, read(key)?],
            protocol: b"http/1.1",
        })
    }

    fn config(&self) -> anyhow::Result<ServerConfig> {
        let [certificate, key] = &self.read;
        let named = || self.certificate.display().to_string();
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(certificate).collect();
        let key =
            PrivateKeyDer::from_pem_slice(key).with_context(|| self.key.display().to_string())?;
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain.with_context(named)?, key)
            .with_context(named)?;
        config.alpn_protocols = vec![self.protocol.to_vec()];
        Ok(config)
    }
}

/// Reads the files again when they have changed. What can't be used, such as a certificate whose key isn't written yet, is told once, and the one in use stays.
async fn follow(mut files: Files, changed: watch::Sender<Arc<ServerConfig>>) {
    loop {
        tokio::select! {
            () = changed.closed() => return,
            () = tokio::time::sleep(LOOKED_EVERY) => {}
        }
        let now = match files.again() {
            Ok(now) if now.read == files.read => continue,
            Ok(now) => now,
            // Files that are replaced may be away for a moment.
            Err(_) => continue,
        };
        match now.config() {
            Ok(config) => {
                changed.send_replace(Arc::new(config));
                tracing::info!(certificate = %now.certificate.display(), "the certificate has changed");
            }
            Err(error) => {
                tracing::warn!(
                    error = format!("{error:#}"),
                    "the certificate has changed and can't be used; the one before stays"
                );
            }
        }
        files = now;
    }
}

/// Takes connections and agrees with each on a key, side by side: a caller that is slow at it holds up nobody. It ends, and with it what is listened on, when nobody takes connections any
/// more.
async fn accept(
    mut listener: PatientListener,
    config: watch::Receiver<Arc<ServerConfig>>,
    agreed: mpsc::Sender<(TlsStream<Patient<TcpStream>>, SocketAddr)>,
) {
    let free = Arc::new(Semaphore::new(MOST_HANDSHAKES));
    loop {
        let Ok(permit) = Arc::clone(&free).acquire_owned().await else {
            return;
        };
        let (stream, address) = tokio::select! {
            accepted = Listener::accept(&mut listener) => accepted,
            () = agreed.closed() => return,
        };
        let acceptor = TlsAcceptor::from(Arc::clone(&config.borrow()));
        let agreed = agreed.clone();
        tokio::spawn(async move {
            let handshake = tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await;
            match handshake {
                Ok(Ok(stream)) => drop(agreed.send((stream, address)).await),
                Ok(Err(error)) => tracing::debug!(%address, %error, "no TLS connection was made"),
                Err(_) => tracing::debug!(%address, "no TLS connection was made in time"),
            }
            drop(permit);
        });
    }
}

/// Connections whose key is agreed on.
#[derive(Debug)]
pub(crate) struct TlsListener {
    connections: mpsc::Receiver<(TlsStream<Patient<TcpStream>>, SocketAddr)>,
    address: SocketAddr,
}

impl TlsListener {
    /// Speaks TLS on what is listened on.
    pub(crate) fn new(listener: PatientListener, files: Files) -> anyhow::Result<Self> {
        let address = listener.local_addr()?;
        let (changed, config) = watch::channel(Arc::new(files.config()?));
        tokio::spawn(follow(files, changed));
        let (agreed, connections) = mpsc::channel(1);
        tokio::spawn(accept(listener, config, agreed));
        Ok(Self {
            connections,
            address,
        })
    }
}

impl Listener for TlsListener {
    type Io = TlsStream<Patient<TcpStream>>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        match self.connections.recv().await {
            Some(connection) => connection,
            // The server stops, and drops this.
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}
