//! Keys, tokens and certificates of callers, and an address that shows the keys which sign tokens.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context;
use chrono::{TimeDelta, Utc};
use serde_json::{Value, json};
use tasker_client::tokens::{Expected, NewToken, SigningKey, jwks_of};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::command::ctl_on;
use crate::database::TestDatabase;
use crate::folders::ScratchFolder;

/// Who signs the tokens of the tests.
pub const ISSUER: &str = "https://issuer.example";
/// Whom they are for.
pub const AUDIENCE: &str = "tasker";

/// A key of an API with these permissions, within some namespaces; without any it reaches all.
pub async fn api_key(
    database: &TestDatabase,
    name: &str,
    permissions: &[&str],
    namespaces: Option<&[&str]>,
) -> anyhow::Result<String> {
    let key = sqlx::query_scalar("select tasker.create_api_key($1, $2, $3)")
        .bind(name)
        .bind(permissions)
        .bind(namespaces);
    Ok(key.fetch_one(database.pool()).await?)
}

/// A pair of keys that signs tokens, in files.
#[derive(Debug)]
pub struct TokenPair {
    _folder: ScratchFolder,
    /// The private key.
    pub private_key: PathBuf,
    /// The public key.
    pub public_key: PathBuf,
    /// What a set of keys calls it.
    pub name: String,
}

impl TokenPair {
    /// A new pair on the curve P-256 (ES256).
    pub fn elliptic(name: &str) -> anyhow::Result<Self> {
        let pair = rcgen::KeyPair::generate()?;
        Self::of(name, &pair.serialize_pem(), &pair.public_key_pem())
    }

    /// The RSA pair of the tests (RS256).
    pub fn rsa(name: &str) -> anyhow::Result<Self> {
        Self::of(
            name,
            include_str!("../keys/rsa.pem"),
            include_str!("../keys/rsa.pub.pem"),
        )
    }

    fn of(name: &str, private_key: &str, public_key: &str) -> anyhow::Result<Self> {
        let folder = ScratchFolder::new()?;
        let written = |file: &str, pem: &str| -> anyhow::Result<PathBuf> {
            let path = folder.path().join(file);
            std::fs::write(&path, pem)?;
            Ok(path)
        };
        Ok(Self {
            private_key: written("key.pem", private_key)?,
            public_key: written("key.pub.pem", public_key)?,
            _folder: folder,
            name: name.to_owned(),
        })
    }

    /// A token that `tasker-ctl` signs; what is given last counts.
    pub async fn token(&self, options: &[&str]) -> anyhow::Result<String> {
        let private_key = self.private_key.display().to_string();
        let given = [
            &["auth", "token", "create", "--private-key", &private_key][..],
            &["--key-id", &self.name, "--subject", "alice"],
            options,
        ]
        .concat();
        let with = |flag: &'static str, value: &'static str| {
            if options.contains(&flag) {
                vec![]
            } else {
                vec![flag, value]
            }
        };
        let expected = [with("--issuer", ISSUER), with("--audience", AUDIENCE)].concat();
        let run = ctl_on("postgres://nowhere", &[given, expected].concat()).await?;
        anyhow::ensure!(run.code == Some(0), "{}", run.stderr);
        Ok(run.stdout.trim().to_owned())
    }

    /// A token of all permissions that expired some seconds ago.
    pub fn expired_token(&self, seconds: i64) -> anyhow::Result<String> {
        let pem = std::fs::read(&self.private_key)?;
        let key = SigningKey::from_pem(&pem, Some(self.name.clone()))?;
        let expires_at = Utc::now() - TimeDelta::seconds(seconds);
        let new = NewToken {
            subject: "alice".to_owned(),
            permissions: vec!["*".to_owned()],
            namespaces: None,
            issued_at: expires_at - TimeDelta::seconds(60),
            expires_at,
        };
        let expected = Expected {
            issuer: ISSUER.to_owned(),
            audience: AUDIENCE.to_owned(),
            permissions_claim: "permissions".to_owned(),
            namespaces_claim: "namespaces".to_owned(),
        };
        Ok(key.sign(&new, &expected)?)
    }

    /// The set of its public key.
    pub fn jwks(&self) -> anyhow::Result<Value> {
        Ok(jwks_of(&std::fs::read(&self.public_key)?, &self.name)?)
    }
}

/// The flags of a server that takes tokens, besides where their keys are.
#[must_use]
pub fn token_flags() -> [&'static str; 4] {
    ["--jwt-issuer", ISSUER, "--jwt-audience", AUDIENCE]
}

/// An address that shows a set of keys, while this value lives.
#[derive(Debug)]
pub struct KeyServer {
    /// Where it is.
    pub url: String,
    shown: Arc<Mutex<String>>,
    asked: Arc<AtomicUsize>,
    serving: tokio::task::JoinHandle<()>,
}

impl KeyServer {
    /// Starts it with the keys of some pairs, over HTTP.
    pub async fn start(pairs: &[&TokenPair]) -> anyhow::Result<Self> {
        Self::start_with(pairs, None).await
    }

    /// The same over HTTPS.
    pub async fn start_tls(
        pairs: &[&TokenPair],
        certificate: &Certificate,
    ) -> anyhow::Result<Self> {
        let chain = CertificateDer::pem_file_iter(certificate.file())?;
        let config = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(
                chain.collect::<Result<_, _>>()?,
                PrivateKeyDer::from_pem_file(certificate.key_file())?,
            )?;
        Self::start_with(pairs, Some(TlsAcceptor::from(Arc::new(config)))).await
    }

    async fn start_with(pairs: &[&TokenPair], tls: Option<TlsAcceptor>) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let scheme = if tls.is_some() { "https" } else { "http" };
        let url = format!("{scheme}://{}/keys", listener.local_addr()?);
        let shown = Arc::new(Mutex::new(set_of(pairs)?));
        let asked = Arc::new(AtomicUsize::new(0));
        let (document, count) = (Arc::clone(&shown), Arc::clone(&asked));
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                let text = document
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .clone();
                // A caller that goes away, or trusts no such certificate, is none of the others' affair.
                let _ = match &tls {
                    None => answer(stream, &text).await,
                    Some(tls) => match tls.accept(stream).await {
                        Ok(stream) => answer(stream, &text).await,
                        Err(error) => Err(error.into()),
                    },
                };
            }
        });
        Ok(Self {
            url,
            shown,
            asked,
            serving,
        })
    }

    /// Shows the keys of other pairs from now on.
    pub fn show(&self, pairs: &[&TokenPair]) -> anyhow::Result<()> {
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = set_of(pairs)?;
        Ok(())
    }

    /// How often it was asked.
    #[must_use]
    pub fn times_asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

impl Drop for KeyServer {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

fn set_of(pairs: &[&TokenPair]) -> anyhow::Result<String> {
    let mut keys = Vec::new();
    for pair in pairs {
        let set = pair.jwks()?;
        keys.extend(set["keys"].as_array().context("keys")?.iter().cloned());
    }
    Ok(json!({ "keys": keys }).to_string())
}

async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin, text: &str) -> anyhow::Result<()> {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        let byte = stream.read_u8().await?;
        request.push(byte);
    }
    let answer = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{text}",
        text.len()
    );
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await?;
    Ok(())
}

/// A certificate of this machine's address and its key, in files that can be replaced.
#[derive(Debug)]
pub struct Certificate {
    folder: ScratchFolder,
    /// The certificate, as PEM.
    pub pem: String,
}

impl Certificate {
    /// A new one.
    pub fn new() -> anyhow::Result<Self> {
        let mut certificate = Self {
            folder: ScratchFolder::new()?,
            pem: String::new(),
        };
        certificate.replace()?;
        Ok(certificate)
    }

    /// Another one in the same files.
    pub fn replace(&mut self) -> anyhow::Result<()> {
        let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()])?;
        self.pem = made.cert.pem();
        std::fs::write(self.file(), &self.pem)?;
        std::fs::write(self.key_file(), made.signing_key.serialize_pem())?;
        Ok(())
    }

    /// The certificate's file.
    #[must_use]
    pub fn file(&self) -> PathBuf {
        self.folder.path().join("certificate.pem")
    }

    /// The key's file.
    #[must_use]
    pub fn key_file(&self) -> PathBuf {
        self.folder.path().join("key.pem")
    }
}
