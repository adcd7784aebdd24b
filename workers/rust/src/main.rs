//! The worker program with the handlers of the example templates.

mod handlers;
mod settings;
mod signals;

use anyhow::Context;
use tasker_client::{Client, ConnectOptions};
use tasker_traces::Exporting;
use tasker_worker_runtime::{CancellationToken, Worker};

use crate::settings::Settings;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let configured = tasker_settings::load::<Settings>("worker");
    if configured.explain {
        return tasker_settings::print(&configured.origins).context("stdout can't be written to");
    }
    let settings = configured.settings;
    let traces = Exporting::start(&settings.traces, "tasker-worker", env!("CARGO_PKG_VERSION"))?;
    settings.log_format.start(&settings.log, traces.as_ref());
    let shutdown = CancellationToken::new();
    signals::cancel_on_signal(shutdown.clone()).context("signals can't be listened for")?;
    let options = ConnectOptions {
        max_connections: settings.max_connections,
        application_name: "tasker-worker".into(),
        ..ConnectOptions::default()
    };
    // Connects at the first call, so that the worker may start before the database.
    let client = Client::connect_lazy(&settings.database_url, &options)
        .context("the database's address can't be read")?;
    worker(client.clone(), &settings)?.run(shutdown).await?;
    client.close().await;
    if let Some(traces) = traces {
        traces.stop().await;
    }
    Ok(())
}

fn worker(client: Client, settings: &Settings) -> anyhow::Result<Worker> {
    let mut builder = Worker::builder(client)
        .namespaces(&settings.namespaces)
        .concurrency(settings.concurrency)
        .prefetch(settings.prefetch)
        .lease(settings.lease())
        .poll_interval(settings.poll_interval())
        .wake_mode(settings.wake.into())
        .shutdown_grace(settings.shutdown_grace());
    if let Some(subscriber) = &settings.subscriber {
        builder = builder.subscriber(subscriber);
    }
    if let Some(worker_id) = &settings.worker_id {
        builder = builder.worker_id(worker_id);
    }
    Ok(handlers::register_all(builder).build()?)
}
