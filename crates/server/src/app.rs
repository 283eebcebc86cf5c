//! The application: what routes share, the table of routes, and what surrounds every request.
//!
//! Invariant: a request's span has its parent before it is entered; set later, the parent would be lost without a word.

use std::sync::Arc;

use api::Code;
use axum::{
    Router,
    body::Bytes,
    extract::{DefaultBodyLimit, FromRequest, FromRequestParts, MatchedPath, Query, Request},
    http::{StatusCode, request::Parts},
    middleware::{self, Next},
    response::{IntoResponse, Response},
};
use serde::de::DeserializeOwned;
use serde_json::Value;
use store::PgStore;
use tokio::sync::{Notify, watch};
use tower_http::catch_panic::CatchPanicLayer;
use tracing::Instrument;

use crate::{ca::Authority, hearing, problem::Refusal, routes, tally::Tally};

/// Largest request: a report of a site with many points.
const BODY_BYTES: usize = 8 << 20;

/// What routes share.
#[derive(Clone)]
pub(crate) struct App {
    pub(crate) store: Arc<PgStore>,
    pub(crate) authority: Arc<Authority>,
    /// Signs exports and reports.
    pub(crate) evidence_key: Arc<evidence::SigningKey>,
    /// Where agents reach the server, if they can.
    pub(crate) public: Option<String>,
    pub(crate) stop: watch::Receiver<bool>,
    /// Told when a delivery changed what policies look at; a hint for whoever looks, on this server alone.
    pub(crate) wakes: Arc<Notify>,
    /// Deliveries that this process was sent.
    pub(crate) tally: Arc<Tally>,
}

/// All routes.
pub(crate) fn router(app: App) -> Router {
    routes::table()
        .method_not_allowed_fallback(|request: Request| async move {
            let mut refusal = Refusal::new(Code::UnknownPath, format!("{} does not take {}", request.uri().path(), request.method()));
            refusal.0.status = StatusCode::METHOD_NOT_ALLOWED.as_u16();
            refusal
        })
        .fallback(|request: Request| async move {
            Refusal::new(Code::UnknownPath, format!("nothing answers {} {}", request.method(), request.uri().path()))
        })
        .with_state(app)
        .layer(DefaultBodyLimit::max(BODY_BYTES))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(middleware::from_fn(hearing::out))
        .layer(middleware::from_fn(traced))
}

#[expect(clippy::needless_pass_by_value, reason = "the layer hands the panic over")]
fn panicked(panic: Box<dyn std::any::Any + Send + 'static>) -> Response {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    tracing::error!(panic = text.unwrap_or("without a message"), "a route panicked");
    Refusal::new(Code::Internal, "the request ran into a mistake of the server").into_response()
}

async fn traced(request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map_or("", MatchedPath::as_str).to_owned();
    let span = tracing::info_span!("request", method = %request.method(), path = request.uri().path(), route);
    if let Some(parent) = request.headers().get("traceparent").and_then(|value| value.to_str().ok()) {
        telemetry::adopt(&span, parent);
    }
    async move {
        let response = next.run(request).await;
        tracing::debug!(status = response.status().as_u16(), "answered");
        response
    }
    .instrument(span)
    .await
}

/// A request's body, read as what the route asks for.
pub(crate) struct Asked<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Asked<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        let bytes = Bytes::from_request(request, state).await.map_err(|error| Refusal::new(Code::InvalidRequest, error.to_string()))?;
        read(&bytes).map(Self)
    }
}

/// A request's query, read as what the route asks for.
pub(crate) struct Queried<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Queried<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        let read = Query::try_from_uri(&parts.uri).map_err(|error| Refusal::new(Code::InvalidRequest, error.body_text()))?;
        Ok(Self(read.0))
    }
}

/// Nothing at all is read as an object without fields.
pub(crate) fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Refusal> {
    let bytes = if bytes.is_empty() { b"{}" } else { bytes };
    serde_json::from_slice(bytes).map_err(|error| Refusal::new(Code::InvalidRequest, format!("the request's body can't be read: {error}")))
}

/// Refuses what the database can't keep.
pub(crate) fn storable(what: &str, value: &Value) -> Result<(), Refusal> {
    if has_nul(value) {
        let detail = format!("a text in {what} has the character NUL (\\0), which can't be kept; leave it out");
        return Err(Refusal::new(Code::InvalidRequest, detail));
    }
    Ok(())
}

fn has_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(values) => values.iter().any(has_nul),
        Value::Object(fields) => fields.iter().any(|(key, value)| key.contains('\0') || has_nul(value)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

/// A name or number in the path, read as what the route asks for.
pub(crate) fn parsed<T: std::str::FromStr<Err: std::fmt::Display>>(text: &str) -> Result<T, Refusal> {
    text.parse().map_err(|error: T::Err| Refusal::new(Code::InvalidRequest, error.to_string()))
}
