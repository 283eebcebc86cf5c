//! Spans, and the trace parents that carry a trace from process to process through the history.

use std::collections::HashMap;

use opentelemetry::{
    KeyValue,
    propagation::TextMapPropagator,
    trace::{TraceContextExt, TracerProvider},
};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig};
use opentelemetry_sdk::{Resource, propagation::TraceContextPropagator, trace::SdkTracerProvider};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::{EnvFilter, Layer, registry::LookupSpan};

const HEADER: &str = "traceparent";

pub(crate) fn resource(service: &'static str) -> Resource {
    let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
    let instance = KeyValue::new("service.instance.id", format!("{}", std::process::id()));
    Resource::builder().with_service_name(service).with_attributes([version, instance]).build()
}

/// Exports if an endpoint is named; else spans only get their ids.
pub(crate) fn provider(service: &'static str) -> SdkTracerProvider {
    let builder = SdkTracerProvider::builder().with_resource(resource(service));
    let named = ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"].iter().any(|name| std::env::var_os(name).is_some());
    if !named {
        return builder.build();
    }
    // The exporter's client takes the process's provider; an earlier choice stands.
    drop(rustls::crypto::ring::default_provider().install_default());
    let protocol = match std::env::var("OTEL_EXPORTER_OTLP_PROTOCOL").as_deref() {
        Ok("http/json") => Protocol::HttpJson,
        _ => Protocol::HttpBinary,
    };
    match SpanExporter::builder().with_http().with_protocol(protocol).build() {
        Ok(exporter) => builder.with_batch_exporter(exporter).build(),
        Err(error) => {
            // Nothing listens to logs yet; the process goes on without export.
            tracing::warn!(%error, "spans can't be exported");
            builder.build()
        }
    }
}

pub(crate) fn layer<S>(provider: &SdkTracerProvider) -> impl Layer<S> + use<S>
where
    S: tracing::Subscriber + for<'a> LookupSpan<'a>,
{
    let tracer = provider.tracer("switchback");
    tracing_opentelemetry::layer().with_tracer(tracer).with_filter(EnvFilter::new("info"))
}

/// Makes a span, not yet entered, part of the trace of this W3C trace parent. A text that is none changes nothing.
pub fn adopt(span: &Span, traceparent: &str) {
    let carrier = HashMap::from([(HEADER.to_owned(), traceparent.to_owned())]);
    let parent = TraceContextPropagator::new().extract(&carrier);
    if parent.span().span_context().is_valid()
        && let Err(error) = span.set_parent(parent)
    {
        tracing::debug!(%error, "a span could not join its trace");
    }
}

/// W3C trace parent of the current span.
#[must_use]
pub fn traceparent() -> Option<String> {
    traceparent_of(&Span::current())
}

/// W3C trace parent of a span; `None` if nobody records it.
#[must_use]
pub fn traceparent_of(span: &Span) -> Option<String> {
    let mut carrier = HashMap::new();
    TraceContextPropagator::new().inject_context(&span.context(), &mut carrier);
    carrier.remove(HEADER)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails where its sentence does not hold")]
mod tests {
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    #[test]
    fn a_span_that_adopts_a_parent_has_its_trace_and_an_id_of_its_own() {
        let provider = SdkTracerProvider::builder().build();
        let subscriber = tracing_subscriber::registry().with(layer(&provider));
        tracing::subscriber::with_default(subscriber, || {
            let span = tracing::info_span!("activity");
            adopt(&span, "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
            let own = traceparent_of(&span).unwrap();
            assert_eq!(&own[..36], "00-0af7651916cd43dd8448eb211c80319c-");
            assert_ne!(&own[36..52], "b7ad6b7169203331");
        });
    }

    #[test]
    fn a_text_that_is_no_trace_parent_changes_nothing() {
        let provider = SdkTracerProvider::builder().build();
        let subscriber = tracing_subscriber::registry().with(layer(&provider));
        tracing::subscriber::with_default(subscriber, || {
            let span = tracing::info_span!("activity");
            adopt(&span, "nonsense");
            assert!(traceparent_of(&span).is_some());
        });
    }
}
