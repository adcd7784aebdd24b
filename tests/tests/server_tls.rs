//! The server over TLS: with the certificate that is in its files, also when that changes, and drained like any other.

use std::path::Path;
use std::time::Duration;

use tasker_tests::credentials::Certificate;
use tasker_tests::{Program, Server, TestDatabase, eventually};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

const WITHIN: Duration = Duration::from_secs(20);

async fn start(database: &TestDatabase, certificate: &Certificate) -> anyhow::Result<Server> {
    let (file, key) = (
        certificate.file().display().to_string(),
        certificate.key_file().display().to_string(),
    );
    let flags = ["--tls-certificate", &file, "--tls-key", &key];
    Server::start(database.url(), &flags).await
}

/// The status of a GET by a caller who trusts one certificate only; nothing when that isn't the server's.
async fn status(server: &Server, trusted: &str) -> anyhow::Result<Option<u16>> {
    let client = reqwest::Client::builder()
        .tls_built_in_root_certs(false)
        .add_root_certificate(reqwest::Certificate::from_pem(trusted.as_bytes())?)
        .timeout(WITHIN)
        .build()?;
    let url = server.url.replace("http:", "https:");
    let sent = client.get(format!("{url}/health/live")).send().await;
    Ok(sent.ok().map(|response| response.status().as_u16()))
}

#[tokio::test]
async fn the_certificate_in_the_files_counts_also_when_it_changes() -> anyhow::Result<()> {
    let database = TestDatabase::new().await?;
    let mut certificate = Certificate::new()?;
    let server = start(&database, &certificate).await?;
    let before = certificate.pem.clone();
    assert_eq!(status(&server, &before).await?, Some(200));
    // Who doesn't speak TLS is not answered.
    assert!(server.get("/health/live").await.is_err());

    std::fs::write(certificate.file(), "not a certificate")?;
    eventually("the log says so", WITHIN, async || {
        let is_told = server.program.log().contains("the one before stays");
        Ok(is_told.then_some(()))
    })
    .await?;
    assert_eq!(status(&server, &before).await?, Some(200));

    certificate.replace()?;
    eventually("the new certificate counts", WITHIN, async || {
        Ok(status(&server, &certificate.pem).await?.map(drop))
    })
    .await?;
    assert_eq!(status(&server, &before).await?, None);
    Ok(())
}

#[tokio::test]
async fn callers_that_say_nothing_hold_up_nobody_and_no_stop() -> anyhow::Result<()> {
    let database = TestDatabase::new().await?;
    let certificate = Certificate::new()?;
    let mut server = start(&database, &certificate).await?;
    let address = server.url.trim_start_matches("http://").to_owned();
    let mut silent = Vec::new();
    for _ in 0..20 {
        silent.push(TcpStream::connect(&address).await?);
    }
    assert_eq!(status(&server, &certificate.pem).await?, Some(200));
    let ended = server.program.terminate(WITHIN).await?;
    assert!(ended.success(), "{ended}: {}", server.program.log());
    for mut stream in silent {
        // Closed, in whichever way.
        let _ = stream.read(&mut [0; 8]).await;
    }
    assert!(TcpStream::connect(&address).await.is_err());
    Ok(())
}

#[tokio::test]
async fn files_that_cannot_be_used_end_the_start() -> anyhow::Result<()> {
    let database = TestDatabase::new().await?;
    let (one, other) = (Certificate::new()?, Certificate::new()?);
    let missing = Path::new("/nowhere.pem").to_owned();
    for (certificate, key) in [
        (one.file(), other.key_file()),
        (one.key_file(), one.file()),
        (missing.clone(), one.key_file()),
        (one.file(), missing),
    ] {
        let (certificate, key) = (certificate.display().to_string(), key.display().to_string());
        let flags = [
            "--listen",
            "127.0.0.1:0",
            "--grpc-listen",
            "off",
            "--tls-certificate",
            &certificate,
            "--tls-key",
            &key,
        ];
        let mut server = Program::start("tasker-server", database.url(), &flags)?;
        assert!(!server.ended(WITHIN).await?.success(), "{flags:?}");
    }
    Ok(())
}
