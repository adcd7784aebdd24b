//! Start, serve, drain, stop.

use std::time::Duration;

use anyhow::Context;
use tasker_client::{Client, ConnectOptions};
use tasker_settings::Origin;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::maintenance::{self, LastRuns};
use crate::routes::{self, AppState};
use crate::settings::Settings;
use crate::sql_steps;

/// How long a request waits for a connection: while the database is away it is answered 503 after that.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(3);

/// Serves until SIGTERM or SIGINT, then finishes the requests under way. The database may be away, also at the start.
pub(crate) async fn run(settings: Settings, origins: Vec<Origin>) -> anyhow::Result<()> {
    settings.check_exposure()?;
    let request_timeout = Duration::from_secs(settings.request_timeout_seconds);
    let client = Client::connect_lazy(
        &settings.database_url,
        &ConnectOptions {
            max_connections: settings.database_connections,
            application_name: "tasker-server".to_owned(),
            acquire_timeout: ACQUIRE_TIMEOUT,
            statement_timeout: Some(request_timeout),
        },
    )
    .context("DATABASE_URL")?;
    let (stop, stopped) = watch::channel(false);
    // Bound before anything is started, so that a taken address ends the program with nothing begun.
    let listener = TcpListener::bind(settings.listen)
        .await
        .with_context(|| format!("can't listen on {}", settings.listen))?;
    let mut maintenance = sql_steps::start(&settings.database_url, settings.sql_runners, &stopped);
    let last_runs = LastRuns::default();
    maintenance.extend(start_maintenance(&settings, &last_runs, &stopped)?);

    let app = routes::app(
        AppState::new(client.clone(), origins, last_runs),
        settings.concurrent_requests as usize,
        request_timeout,
    );
    tracing::info!(address = %listener.local_addr()?, "listening");
    let serve = axum::serve(listener, app).with_graceful_shutdown(until_stopped(stopped.clone()));
    let drained = tokio::spawn(async move { serve.await });

    wait_for_signal().await?;
    tracing::info!("stopping: no new requests are taken, those under way are finished");
    stop.send_replace(true);
    let patience = Duration::from_secs(settings.shutdown_timeout_seconds);
    if let Ok(ended) = tokio::time::timeout(patience, drained).await {
        ended??;
    } else {
        tracing::warn!(
            waited_seconds = patience.as_secs(),
            "stopped with requests under way"
        );
    }
    for maintenance in maintenance {
        maintenance.await?;
    }
    tracing::info!("stopped");
    Ok(())
}

/// Maintenance has a connection of its own, so that busy requests don't keep it waiting, nor their timeout cut it short.
fn start_maintenance(
    settings: &Settings,
    last_runs: &LastRuns,
    stopped: &watch::Receiver<bool>,
) -> anyhow::Result<Option<tokio::task::JoinHandle<()>>> {
    if settings.no_maintenance {
        return Ok(None);
    }
    let client = Client::connect_lazy(
        &settings.database_url,
        &ConnectOptions {
            max_connections: 1,
            application_name: "tasker-server maintenance".to_owned(),
            acquire_timeout: ACQUIRE_TIMEOUT,
            statement_timeout: Some(maintenance::STATEMENT_TIMEOUT),
        },
    )?;
    Ok(Some(tokio::spawn(maintenance::run(
        client,
        last_runs.clone(),
        until_stopped(stopped.clone()),
    ))))
}

/// Ends when the server is told to stop.
async fn until_stopped(mut stopped: watch::Receiver<bool>) {
    // An error means that the sender is gone, which is a stop too.
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

async fn wait_for_signal() -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}
