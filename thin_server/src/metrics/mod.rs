//! Metrics in Prometheus's text format, at `/metrics`.
//!
//! | module | holds |
//! |---|---|
//! | `http`, `grpc` | counting requests |
//! | `engine` | what the database says of queues, steps, dead letters and health |
//! | `scrape` | `/metrics` |
//!
//! Every label is bounded: paths are those of the router, codes those of errors, namespaces and jobs those of the database.

mod engine;
mod grpc;
mod http;
mod scrape;

use std::sync::Arc;

use prometheus::core::Collector;
use prometheus::{
    Gauge, GaugeVec, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
    Opts, Registry,
};
use tasker_client::Client;

use self::engine::Engine;
pub(crate) use self::engine::STATEMENT_TIMEOUT;
use self::grpc::GrpcMetrics;
pub(crate) use self::http::observe;
pub(crate) use self::scrape::{__path_metrics, metrics};

/// The bounds of the buckets of latencies, in seconds.
const LATENCY_BUCKETS: [f64; 13] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

/// All metrics of this server. Cheap to clone: all clones count together.
#[derive(Debug, Clone)]
pub(crate) struct Metrics(Arc<Families>);

impl std::ops::Deref for Metrics {
    type Target = Families;

    fn deref(&self) -> &Families {
        &self.0
    }
}

#[derive(Debug)]
pub(crate) struct Families {
    registry: Registry,
    pub(crate) http: HttpMetrics,
    pub(crate) grpc: GrpcMetrics,
    pub(crate) events: EventMetrics,
    pub(crate) maintenance: MaintenanceMetrics,
    connections: ConnectionMetrics,
    engine: Engine,
}

/// Requests.
#[derive(Debug)]
pub(crate) struct HttpMetrics {
    requests: IntCounterVec,
    duration_seconds: HistogramVec,
    in_flight: IntGauge,
    refusals: IntCounterVec,
}

/// The feed of events and its listeners.
#[derive(Debug)]
pub(crate) struct EventMetrics {
    pub(crate) listeners: IntGauge,
    pub(crate) ended: IntCounterVec,
    pub(crate) read: IntCounter,
    pub(crate) delay_seconds: Gauge,
}

/// Maintenance, as far as this server does it.
#[derive(Debug)]
pub(crate) struct MaintenanceMetrics {
    pub(crate) rounds: IntCounter,
    pub(crate) job_runs: IntCounterVec,
    pub(crate) rows: IntCounterVec,
}

/// The connections that requests share.
#[derive(Debug)]
struct ConnectionMetrics {
    connections: IntGaugeVec,
    most: IntGauge,
    acquire_seconds: Gauge,
}

impl Metrics {
    /// `client` asks the database for figures when metrics are asked for.
    pub(crate) fn new(client: Client) -> prometheus::Result<Self> {
        let registry = Registry::new();
        let families = Families {
            http: HttpMetrics::new(&registry)?,
            grpc: GrpcMetrics::new(&registry)?,
            events: EventMetrics::new(&registry)?,
            maintenance: MaintenanceMetrics::new(&registry)?,
            connections: ConnectionMetrics::new(&registry)?,
            engine: Engine::new(client, &registry)?,
            registry,
        };
        let version = gauges(
            &families.registry,
            "tasker_build_info",
            "The server that runs; the value is 1.",
            &["version"],
        )?;
        version
            .with_label_values(&[env!("CARGO_PKG_VERSION")])
            .set(1.0);
        Ok(Self(Arc::new(families)))
    }
}

impl HttpMetrics {
    fn new(registry: &Registry) -> prometheus::Result<Self> {
        let latencies = HistogramOpts::new(
            "tasker_http_request_duration_seconds",
            "How long requests took until they were answered; for a stream, until it began.",
        )
        .buckets(LATENCY_BUCKETS.to_vec());
        Ok(Self {
            requests: counters(
                registry,
                "tasker_http_requests_total",
                "Requests answered, by method, route and class of the status.",
                &["method", "route", "status"],
            )?,
            duration_seconds: registered(
                registry,
                HistogramVec::new(latencies, &["method", "route"])?,
            )?,
            in_flight: registered(
                registry,
                IntGauge::new(
                    "tasker_http_requests_in_flight",
                    "Requests that aren't answered yet; streams that have begun are.",
                )?,
            )?,
            refusals: counters(
                registry,
                "tasker_http_refusals_total",
                "Errors answered, by their code.",
                &["code"],
            )?,
        })
    }
}

impl EventMetrics {
    fn new(registry: &Registry) -> prometheus::Result<Self> {
        let ended = counters(
            registry,
            "tasker_event_listeners_ended_total",
            "Streams of events that the server ended before their time: slow, stopped or refused.",
            &["reason"],
        )?;
        // Told also before the first, so that its coming is seen.
        for reason in ["slow", "stopped", "refused"] {
            ended.with_label_values(&[reason]).reset();
        }
        Ok(Self {
            ended,
            listeners: registered(
                registry,
                IntGauge::new(
                    "tasker_event_listeners",
                    "Listeners of streams of events that are connected.",
                )?,
            )?,
            read: registered(
                registry,
                IntCounter::new(
                    "tasker_events_read_total",
                    "Events that were read from the feed for all listeners together.",
                )?,
            )?,
            delay_seconds: registered(
                registry,
                Gauge::new(
                    "tasker_event_delay_seconds",
                    "How old the last event was when it was read from the feed.",
                )?,
            )?,
        })
    }
}

impl MaintenanceMetrics {
    fn new(registry: &Registry) -> prometheus::Result<Self> {
        Ok(Self {
            rounds: registered(
                registry,
                IntCounter::new(
                    "tasker_maintenance_rounds_total",
                    "Rounds of maintenance that this server has begun.",
                )?,
            )?,
            job_runs: counters(
                registry,
                "tasker_maintenance_job_runs_total",
                "Batches of jobs of maintenance that this server has run: done or failed.",
                &["job", "outcome"],
            )?,
            rows: counters(
                registry,
                "tasker_maintenance_rows_total",
                "Rows that jobs of maintenance have moved, by this server.",
                &["job"],
            )?,
        })
    }

    /// A batch of a job has been done, and has moved so many rows.
    pub(crate) fn done(&self, job: &str, rows: i64) {
        self.job_runs.with_label_values(&[job, "done"]).inc();
        let rows = u64::try_from(rows).unwrap_or_default();
        self.rows.with_label_values(&[job]).inc_by(rows);
    }

    /// A job, or the question which are due, has failed.
    pub(crate) fn failed(&self, job: &str) {
        self.job_runs.with_label_values(&[job, "failed"]).inc();
    }
}

impl ConnectionMetrics {
    fn new(registry: &Registry) -> prometheus::Result<Self> {
        Ok(Self {
            connections: registered(
                registry,
                IntGaugeVec::new(
                    Opts::new(
                        "tasker_database_connections",
                        "Connections to the database held for requests, by state.",
                    ),
                    &["state"],
                )?,
            )?,
            most: registered(
                registry,
                IntGauge::new(
                    "tasker_database_connections_max",
                    "The most connections that are held for requests.",
                )?,
            )?,
            acquire_seconds: registered(
                registry,
                Gauge::new(
                    "tasker_database_acquire_seconds",
                    "How long a request that came together with this one would have waited for a connection.",
                )?,
            )?,
        })
    }
}

fn registered<C: Collector + Clone + 'static>(
    registry: &Registry,
    family: C,
) -> prometheus::Result<C> {
    registry.register(Box::new(family.clone()))?;
    Ok(family)
}

fn counters(
    registry: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
) -> prometheus::Result<IntCounterVec> {
    registered(registry, IntCounterVec::new(Opts::new(name, help), labels)?)
}

fn gauges(
    registry: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
) -> prometheus::Result<GaugeVec> {
    registered(registry, GaugeVec::new(Opts::new(name, help), labels)?)
}
