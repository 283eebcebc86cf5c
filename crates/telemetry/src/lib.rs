//! What processes tell about themselves: logs on standard error, spans to an OTLP collector, metrics for Prometheus.
//!
//!   request span ─▶ traceparent ─▶ history ─▶ turn and activity spans, in whatever process, of the same trace
//!
//! Invariants: 1. Every process has trace ids, whether or not anybody collects them: they stand in histories. 2. A parent is
//! set before its span is first entered; set later it would be lost without a word. 3. A collector that is away costs nothing.

mod metrics;
mod traces;

pub use metrics::{meter, metrics_text};
pub use traces::{adopt, traceparent, traceparent_of};

use std::io::IsTerminal;

use tracing_subscriber::{EnvFilter, Layer, layer::SubscriberExt, util::SubscriberInitExt};

/// Keeps telemetry alive; what is buffered goes out when it is dropped.
pub struct Telemetry {
    spans: opentelemetry_sdk::trace::SdkTracerProvider,
}

/// Starts logs, spans and metrics for a process that calls itself `service`. The first call of a process counts.
///
/// `SWITCHBACK_LOG` filters (default `info`), `SWITCHBACK_LOG_FORMAT=json` changes the form, `OTEL_EXPORTER_OTLP_ENDPOINT`
/// turns the export of spans on, `OTEL_EXPORTER_OTLP_PROTOCOL` chooses `http/protobuf` (default) or `http/json`.
#[must_use]
pub fn start(service: &'static str) -> Telemetry {
    let spans = traces::provider(service);
    metrics::start(service);
    let filter = || EnvFilter::try_from_env("SWITCHBACK_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(std::io::stderr().is_terminal()).with_target(false);
    let json = std::env::var("SWITCHBACK_LOG_FORMAT").is_ok_and(|form| form == "json");
    let lines = if json { lines.json().with_filter(filter()).boxed() } else { lines.with_filter(filter()).boxed() };
    let started = tracing_subscriber::registry().with(lines).with(traces::layer(&spans)).try_init();
    if let Err(error) = started {
        tracing::debug!(%error, "telemetry was started before");
    }
    Telemetry { spans }
}

impl Drop for Telemetry {
    fn drop(&mut self) {
        if let Err(error) = self.spans.shutdown() {
            tracing::debug!(%error, "the last spans were not delivered");
        }
    }
}
