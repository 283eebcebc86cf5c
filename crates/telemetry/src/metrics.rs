//! Metrics of this process, in Prometheus' text form.

use std::sync::OnceLock;

use opentelemetry::{global, metrics::Meter};
use opentelemetry_sdk::metrics::SdkMeterProvider;
use prometheus::{Encoder, Registry, TextEncoder};

use crate::traces::resource;

static REGISTRY: OnceLock<Registry> = OnceLock::new();

pub(crate) fn start(service: &'static str) {
    let registry = Registry::new();
    let exporter = opentelemetry_prometheus::exporter().with_registry(registry.clone()).build();
    match exporter {
        Ok(reader) if REGISTRY.set(registry).is_ok() => {
            global::set_meter_provider(SdkMeterProvider::builder().with_reader(reader).with_resource(resource(service)).build());
        }
        Ok(_) => {}
        Err(error) => tracing::warn!(%error, "metrics can't be collected"),
    }
}

/// Where instruments are made; names begin with `switchback_`, units are base units.
#[must_use]
pub fn meter() -> Meter {
    global::meter("switchback")
}

/// All metrics of this process; empty before [`crate::start`].
#[must_use]
pub fn metrics_text() -> String {
    let Some(registry) = REGISTRY.get() else { return String::new() };
    let mut text = Vec::new();
    if let Err(error) = TextEncoder::new().encode(&registry.gather(), &mut text) {
        tracing::warn!(%error, "metrics can't be written");
    }
    String::from_utf8_lossy(&text).into_owned()
}
