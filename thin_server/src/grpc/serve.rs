//! Connections taken, served, and drained.

use std::time::Duration;

use axum::Router;
use axum::serve::Listener;
use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::sync::watch;

/// A caller that doesn't answer a ping within this is gone.
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// Serves until the server is told to stop, and then the calls under way. A connection on which nothing happens is asked every so often whether it lives, so that a stream of events needs no
/// messages for that.
pub(super) async fn serve<L>(
    mut listener: L,
    routes: Router,
    ping_every: Duration,
    mut stopped: watch::Receiver<bool>,
) where
    L: Listener,
{
    let mut http = http2::Builder::new(TokioExecutor::new());
    http.timer(TokioTimer::new())
        .keep_alive_interval(Some(ping_every))
        .keep_alive_timeout(PING_TIMEOUT);
    let under_way = GracefulShutdown::new();
    loop {
        let (stream, _) = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stopped.wait_for(|stopped| *stopped) => break,
        };
        let service = TowerToHyperService::new(routes.clone());
        let connection = http.serve_connection(TokioIo::new(stream), service);
        let connection = under_way.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection ended");
            }
        });
    }
    drop(listener);
    under_way.shutdown().await;
}
