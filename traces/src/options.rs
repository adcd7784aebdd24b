//! The settings of sending spans. Their variables are those that OpenTelemetry names, so that a machine says them once for all its programs.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

/// So long a stop waits at most for the last spans to be sent.
const LONGEST_FAREWELL: Duration = Duration::from_secs(5);

/// Whether spans are recorded, and where they are sent.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Traces")]
pub struct TraceOptions {
    /// Record spans and send them to this collector, by OTLP over HTTP with Protocol Buffers; /v1/traces is added. Without it nothing is recorded
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT", value_name = "URL")]
    pub otlp_endpoint: Option<String>,

    /// Headers to send with them, such as a key: name=value, several separated by commas, other characters as in an address (%20)
    #[arg(
        long,
        env = "OTEL_EXPORTER_OTLP_HEADERS",
        value_name = "HEADERS",
        hide_env_values = true
    )]
    pub otlp_headers: Option<String>,

    /// Trust the certificates of this PEM file, besides the public authorities, for a collector at https
    #[arg(long, env = "OTEL_EXPORTER_OTLP_CERTIFICATE", value_name = "FILE")]
    pub otlp_ca: Option<PathBuf>,

    /// How long sending a batch may take, in milliseconds; what the collector hasn't taken by then is dropped
    #[arg(long, env = "OTEL_EXPORTER_OTLP_TIMEOUT", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(100..=60_000))]
    pub otlp_timeout_ms: u64,

    /// What the program is called in traces [default: its own name]
    #[arg(long, env = "OTEL_SERVICE_NAME", value_name = "NAME")]
    pub otlp_service_name: Option<String>,

    /// How many of the traces that begin here are recorded, from 0 to 1; one that began elsewhere is recorded if it is there
    #[arg(long, env = "OTEL_TRACES_SAMPLER_ARG", default_value_t = 1.0, value_name = "SHARE", value_parser = share)]
    pub otlp_sample_ratio: f64,
}

/// Why spans can't be sent as the settings ask.
#[derive(Debug, thiserror::Error)]
pub enum TraceSetupError {
    /// The address of the collector.
    #[error("--otlp-endpoint {url} must be an address such as http://localhost:4318: {reason}")]
    Endpoint {
        /// As it was given.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The headers.
    #[error("--otlp-headers must be name=value, several separated by commas")]
    Headers,
    /// The certificates.
    #[error("--otlp-ca {}: {reason}", file.display())]
    Authorities {
        /// Their file.
        file: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// OpenTelemetry's library refuses.
    #[error("spans can't be sent: {0}")]
    Refused(String),
}

fn share(text: &str) -> Result<f64, String> {
    // A variable that is empty counts as one that isn't there.
    if text.is_empty() {
        return Ok(1.0);
    }
    let share: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if (0.0..=1.0).contains(&share) {
        Ok(share)
    } else {
        Err("not from 0 to 1".to_owned())
    }
}

impl TraceOptions {
    /// Where spans are sent; a variable that is empty counts as one that isn't there.
    pub(crate) fn url(&self) -> Option<String> {
        let endpoint = self.otlp_endpoint.as_deref()?.trim();
        (!endpoint.is_empty()).then(|| format!("{}/v1/traces", endpoint.trim_end_matches('/')))
    }

    pub(crate) fn timeout(&self) -> Duration {
        Duration::from_millis(self.otlp_timeout_ms)
    }

    pub(crate) fn farewell(&self) -> Duration {
        self.timeout().min(LONGEST_FAREWELL)
    }

    pub(crate) fn headers(&self) -> Result<HashMap<String, String>, TraceSetupError> {
        let given = self.otlp_headers.as_deref().unwrap_or_default();
        let headers = given.split(',').filter(|header| !header.trim().is_empty());
        headers
            .map(|header| {
                let (name, value) = header.split_once('=').ok_or(TraceSetupError::Headers)?;
                let value = decoded(value.trim()).ok_or(TraceSetupError::Headers)?;
                Ok((name.trim().to_owned(), value))
            })
            .collect()
    }
}

/// A text in which `%20` stands for a blank.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, more)) = rest.split_first() {
        if first == b'%' {
            let digits = std::str::from_utf8(more.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = &more[2..];
        } else {
            bytes.push(first);
            rest = more;
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Settings {
        #[command(flatten)]
        traces: TraceOptions,
    }

    fn options(arguments: &[&str]) -> TraceOptions {
        Settings::parse_from(["program"].iter().chain(arguments)).traces
    }

    #[test]
    fn spans_are_sent_to_the_path_for_traces_of_an_endpoint_that_is_given() {
        for endpoint in ["http://collector:4318", "http://collector:4318/"] {
            assert_eq!(
                options(&["--otlp-endpoint", endpoint]).url().as_deref(),
                Some("http://collector:4318/v1/traces")
            );
        }
        assert_eq!(options(&["--otlp-endpoint", " "]).url(), None);
    }

    #[test]
    fn headers_are_pairs_whose_values_may_be_encoded() {
        let given = ["--otlp-headers", "authorization=Basic%20YTpi=, x-key=1,"];
        let headers = options(&given).headers().expect("good headers");
        assert_eq!(
            headers.get("authorization").map(String::as_str),
            Some("Basic YTpi=")
        );
        assert_eq!(headers.get("x-key").map(String::as_str), Some("1"));
        for bad in ["authorization", "a=%2", "a=%zz", "a=%ff"] {
            assert!(
                options(&["--otlp-headers", bad]).headers().is_err(),
                "{bad}"
            );
        }
    }

    #[test]
    fn a_share_is_one_from_none_to_all() {
        let parse =
            |share: &str| Settings::try_parse_from(["program", "--otlp-sample-ratio", share]);
        assert!(parse("0.25").is_ok());
        for bad in ["1.5", "-1", "NaN", "half"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
