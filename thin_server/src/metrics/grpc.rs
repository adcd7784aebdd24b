//! Counting calls of gRPC.

use std::time::Instant;

use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, IntGauge, Registry};

use super::{LATENCY_BUCKETS, counters, registered};

/// Calls of gRPC.
#[derive(Debug)]
pub(crate) struct GrpcMetrics {
    requests: IntCounterVec,
    duration_seconds: HistogramVec,
    in_flight: IntGauge,
    refusals: IntCounterVec,
}

/// A call under way: counted as long as it is kept, also when its caller goes away.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    metrics: &'a GrpcMetrics,
    method: &'static str,
    begun: Instant,
}

impl GrpcMetrics {
    pub(super) fn new(registry: &Registry) -> prometheus::Result<Self> {
        let latencies = HistogramOpts::new(
            "tasker_grpc_request_duration_seconds",
            "How long calls of gRPC took until they were answered; for a stream, until it began.",
        )
        .buckets(LATENCY_BUCKETS.to_vec());
        Ok(Self {
            requests: counters(
                registry,
                "tasker_grpc_requests_total",
                "Calls of gRPC answered, by method and code; for a stream, the code that it began with.",
                &["method", "code"],
            )?,
            duration_seconds: registered(registry, HistogramVec::new(latencies, &["method"])?)?,
            in_flight: registered(
                registry,
                IntGauge::new(
                    "tasker_grpc_requests_in_flight",
                    "Calls of gRPC that aren't answered yet; streams that have begun are.",
                )?,
            )?,
            refusals: counters(
                registry,
                "tasker_grpc_refusals_total",
                "Errors answered over gRPC, by their code.",
                &["code"],
            )?,
        })
    }

    /// A call has come; `method` is one of those that there are.
    pub(crate) fn begin(&self, method: &'static str) -> Call<'_> {
        self.in_flight.inc();
        Call {
            metrics: self,
            method,
            begun: Instant::now(),
        }
    }

    /// An error is answered.
    pub(crate) fn refused(&self, code: &str) {
        self.refusals.with_label_values(&[code]).inc();
    }
}

impl Call<'_> {
    /// It is answered with a code of gRPC.
    pub(crate) fn answered(self, code: &'static str) {
        let (metrics, method) = (self.metrics, self.method);
        metrics.requests.with_label_values(&[method, code]).inc();
        metrics
            .duration_seconds
            .with_label_values(&[method])
            .observe(self.begun.elapsed().as_secs_f64());
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        self.metrics.in_flight.dec();
    }
}
