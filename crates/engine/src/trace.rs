//! Joins the engine's spans to the trace of the request that started a run. What a trace is, is known outside only.

use std::sync::OnceLock;

type Adopt = Box<dyn Fn(&tracing::Span, &str) + Send + Sync>;

static ADOPT: OnceLock<Adopt> = OnceLock::new();

/// Called once for each new span of a turn or an activity, before it is entered, with the W3C trace parent of its run.
/// The first call counts.
pub fn on_span(adopt: impl Fn(&tracing::Span, &str) + Send + Sync + 'static) {
    drop(ADOPT.set(Box::new(adopt)));
}

pub(crate) fn adopt(span: &tracing::Span, trace: Option<&str>) {
    if let (Some(adopt), Some(trace)) = (ADOPT.get(), trace) {
        adopt(span, trace);
    }
}
