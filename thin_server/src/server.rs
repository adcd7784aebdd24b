//! Start, serve, drain, stop.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use axum::serve::Listener;
use rustix::process::{Resource, getrlimit, setrlimit};
use tasker_client::{Client, ConnectOptions};
use tasker_settings::Origin;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::auth::Authentication;
use crate::cors;
use crate::events::Feed;
use crate::grpc;
use crate::limits::Limits;
use crate::maintenance::{self, LastRuns};
use crate::metrics::{self, Metrics};
use crate::patience::PatientListener;
use crate::routes::{self, AppState};
use crate::settings::Settings;
use crate::sql_steps;
use crate::tls::TlsListener;

/// How long a request waits for a connection: while the database is away it is answered 503 after that.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(3);

/// For the reader of the feed, and for listeners that catch up, one after the other.
const FEED_CONNECTIONS: u32 = 2;

/// Serves until SIGTERM or SIGINT, then finishes the requests under way. The database may be away, also at the start.
pub(crate) async fn run(settings: Settings, origins: Vec<Origin>) -> anyhow::Result<()> {
    settings.check_exposure()?;
    let request_timeout = Duration::from_secs(settings.request_timeout_seconds);
    let client = connect(&settings, request_timeout).context("DATABASE_URL")?;
    let authentication = Authentication::new(&settings.auth, client.clone())?;
    let tls = settings.tls.files()?;
    let cors = cors::layer(&settings.cors_origins)?;
    let stop_signal = stop_signal()?;
    let (stop, stopped) = watch::channel(false);
    let metrics = Metrics::new(client_of_metrics(&settings)?)?;
    let feed = Feed::new(
        client_of_feed(&settings, request_timeout)?,
        metrics.clone(),
        settings.event_listeners as usize,
        Duration::from_secs(settings.event_heartbeat_seconds),
        stopped.clone(),
    );
    // Bound before anything is started, so that a taken address ends the program with nothing begun.
    let grpc_listener = match settings.grpc_listen.0 {
        Some(address) => Some(listen(address, &settings).await?),
        None => None,
    };
    let listener = listen(settings.listen, &settings).await?;
    let address = listener.local_addr()?;
    let mut maintenance = sql_steps::start(&settings.database_url, settings.sql_runners, &stopped);
    let last_runs = LastRuns::default();
    maintenance.extend(start_maintenance(
        &settings, &last_runs, &metrics, &stopped,
    )?);
    maintenance.push(tokio::spawn(feed.clone().run()));
    allow_many_connections();

    let state = AppState {
        client: client.clone(),
        feed,
        last_runs,
        metrics,
        origins: origins.into(),
    };
    let limits = Limits::new(settings.concurrent_requests as usize, request_timeout);
    let grpc_drained = match grpc_listener {
        None => None,
        Some(listener) => {
            let routes = grpc::routes(&state, authentication.clone(), limits.clone(), &stopped)?;
            let ping_every = Duration::from_secs(settings.event_heartbeat_seconds);
            let tls = tls.clone();
            Some(grpc::start(listener, tls, routes, ping_every, &stopped)?)
        }
    };
    let app = routes::app(state, authentication, limits, cors);
    tracing::info!(%address, tls = tls.is_some(), authentication = settings.auth.is_on(), "listening");
    if settings.shows_credentials() {
        tracing::warn!(
            "keys and tokens come over the network as they are: give --tls-certificate, or let only a proxy that speaks TLS call"
        );
    }
    let drained = match tls {
        Some(files) => serve(TlsListener::new(listener, files)?, app, stopped.clone()),
        None => serve(listener, app, stopped.clone()),
    };

    stop_signal.await;
    tracing::info!("stopping: no new requests are taken, those under way are finished");
    stop.send_replace(true);
    let patience = Duration::from_secs(settings.shutdown_timeout_seconds);
    let drained = async {
        if let Some(drained) = grpc_drained {
            drained.await?;
        }
        drained.await
    };
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

async fn listen(address: SocketAddr, settings: &Settings) -> anyhow::Result<PatientListener> {
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("can't listen on {address}"))?;
    let patience = Duration::from_secs(settings.write_timeout_seconds);
    Ok(PatientListener::new(listener, patience))
}

/// Serves until the server is told to stop, and then the requests under way.
fn serve<L: Listener<Addr = SocketAddr>>(
    listener: L,
    app: Router,
    stopped: watch::Receiver<bool>,
) -> JoinHandle<std::io::Result<()>> {
    let serve = axum::serve(listener, app).with_graceful_shutdown(until_stopped(stopped));
    tokio::spawn(async move { serve.await })
}

/// The connections for requests; where callers are asked who they are, each acts for the caller whose request it serves.
fn connect(settings: &Settings, request_timeout: Duration) -> Result<Client, tasker_client::Error> {
    let options = ConnectOptions {
        max_connections: settings.database_connections,
        application_name: "tasker-server".to_owned(),
        acquire_timeout: ACQUIRE_TIMEOUT,
        statement_timeout: Some(request_timeout),
    };
    if settings.auth.is_on() {
        Client::connect_lazy_serving(&settings.database_url, &options)
    } else {
        Client::connect_lazy(&settings.database_url, &options)
    }
}

/// Maintenance has a connection of its own, so that busy requests don't keep it waiting, nor their timeout cut it short.
fn start_maintenance(
    settings: &Settings,
    last_runs: &LastRuns,
    metrics: &Metrics,
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
        metrics.clone(),
        until_stopped(stopped.clone()),
    ))))
}

/// The feed is read by the server for itself, once for all who listen: each is then given what it may have.
fn client_of_feed(settings: &Settings, request_timeout: Duration) -> anyhow::Result<Client> {
    let client = Client::connect_lazy(
        &settings.database_url,
        &ConnectOptions {
            max_connections: FEED_CONNECTIONS,
            application_name: "tasker-server events".to_owned(),
            acquire_timeout: ACQUIRE_TIMEOUT,
            statement_timeout: Some(request_timeout),
        },
    )?;
    Ok(client)
}

/// Figures for metrics have a connection of their own as well.
fn client_of_metrics(settings: &Settings) -> anyhow::Result<Client> {
    let client = Client::connect_lazy(
        &settings.database_url,
        &ConnectOptions {
            max_connections: 1,
            application_name: "tasker-server metrics".to_owned(),
            acquire_timeout: ACQUIRE_TIMEOUT,
            statement_timeout: Some(metrics::STATEMENT_TIMEOUT),
        },
    )?;
    Ok(client)
}

/// Each listener of events is an open file; the usual bound is a thousand, though the system lets a process raise it.
fn allow_many_connections() {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current == limit.maximum {
        return;
    }
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "the bound on open files can't be raised");
    }
}

/// Ends when the server is told to stop.
async fn until_stopped(mut stopped: watch::Receiver<bool>) {
    // An error means that the sender is gone, which is a stop too.
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

/// Ends with the first SIGTERM or SIGINT from this call on, before anything is served.
fn stop_signal() -> std::io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
