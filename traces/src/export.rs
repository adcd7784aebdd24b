//! Recording spans, batching them, sending them, and the end of that.

use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use tasker_client::traces::TARGET;
use tracing::Subscriber;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::registry::LookupSpan;

use crate::options::{TraceOptions, TraceSetupError};
use crate::sender::Sender;

/// What records spans and sends them, in batches, from a thread of its own. It never keeps anybody waiting: of what comes faster than it can be sent, and of what the collector doesn't take,
/// spans are dropped.
#[derive(Debug)]
pub struct Exporting {
    provider: SdkTracerProvider,
    farewell: Duration,
}

impl Exporting {
    /// What the settings ask for; `None` where they name no collector. To be called within a tokio runtime.
    pub fn start(
        options: &TraceOptions,
        program: &'static str,
        version: &'static str,
    ) -> Result<Option<Self>, TraceSetupError> {
        let Some(url) = options.url() else {
            return Ok(None);
        };
        let sender = Sender::new(&url, options.otlp_ca.as_deref(), options.timeout())?;
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(sender)
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(url)
            .with_headers(options.headers()?)
            .with_timeout(options.timeout())
            .build()
            .map_err(|error| TraceSetupError::Refused(error.to_string()))?;
        let name = options.otlp_service_name.as_deref().unwrap_or(program);
        let resource = Resource::builder()
            .with_service_name(name.to_owned())
            .with_attribute(KeyValue::new("service.version", version))
            .build();
        let begun_here = Sampler::TraceIdRatioBased(options.otlp_sample_ratio);
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_resource(resource)
            .with_sampler(Sampler::ParentBased(Box::new(begun_here)))
            .build();
        Ok(Some(Self {
            provider,
            farewell: options.farewell(),
        }))
    }

    /// What takes the spans of traces from a subscriber.
    #[must_use]
    pub fn layer<S>(&self) -> Box<dyn Layer<S> + Send + Sync>
    where
        S: Subscriber + for<'span> LookupSpan<'span> + Send + Sync,
    {
        tracing_opentelemetry::layer()
            .with_tracer(self.provider.tracer("tasker"))
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            .with_tracked_inactivity(false)
            .with_filter(filter_fn(|about| {
                about.is_span() && about.target() == TARGET
            }))
            .boxed()
    }

    /// Sends what is left, within a few seconds, and records nothing any more.
    pub async fn stop(self) {
        let Self { provider, farewell } = self;
        let ended =
            tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(farewell)).await;
        if !matches!(ended, Ok(Ok(()))) {
            tracing::warn!(
                waited_ms = farewell.as_millis(),
                "the last spans could not be sent"
            );
        }
    }
}
