//! Problems as answers, and what failures of the store mean to whoever asks.

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use engine::StoreError;
use store::Lost;

use api::{Code, Problem};

const CHECKING: &str = "the database server was started anew, and whether it has lost something is being found out";

/// A refusal on its way out.
#[derive(Debug)]
pub(crate) struct Refusal(pub(crate) Box<Problem>);

/// What a route gives.
pub(crate) type Answer<T> = Result<Json<T>, Refusal>;

impl Refusal {
    pub(crate) fn new(code: Code, detail: impl Into<String>) -> Self {
        Self(Box::new(Problem::new(code, detail)))
    }
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        Self(Box::new(problem))
    }
}

impl From<Lost> for Refusal {
    fn from(lost: Lost) -> Self {
        if lost.is_checking() {
            return Refusal::new(Code::StoreChecking, CHECKING);
        }
        let unreadable = matches!(lost, Lost::Unreadable(_));
        failed(&lost, if unreadable { Code::Internal } else { Code::DatabaseUnavailable })
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        match &error {
            StoreError::Fenced(lease) => {
                let detail = format!("the lease of worker {} epoch {} was deleted after it ran out", lease.worker, lease.epoch);
                Refusal::new(Code::LeaseGone, detail)
            }
            StoreError::Again { source, .. } if source.downcast_ref::<Lost>().is_some_and(Lost::is_checking) => Refusal::new(Code::StoreChecking, CHECKING),
            StoreError::Again { .. } => failed(&error, Code::DatabaseUnavailable),
            StoreError::Refused { .. } => failed(&error, Code::Internal),
        }
    }
}

/// Logged once, here; the caller gets the outline and the trace.
fn failed(error: &(dyn std::error::Error + 'static), code: Code) -> Refusal {
    tracing::warn!(error, "a request failed");
    Refusal::new(code, error.to_string())
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let Self(mut problem) = self;
        problem.trace_id = telemetry::traceparent().and_then(|parent| parent.split('-').nth(1).map(str::to_owned));
        let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(problem)).into_response();
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(api::problem::MEDIA_TYPE));
        response
    }
}
