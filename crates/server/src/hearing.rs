//! A request is heard out before it is answered.
//!
//!   route reads the body ─▶ to its end: answered
//!                        └▶ not (too large, not allowed, unknown path): what is left is read and thrown away, then answered
//!
//! A connection that is closed while its sender is still writing tells the sender "broken pipe", and the answer with the reason is lost.
//! So what is left is taken off the connection first.
//!
//! Invariant: hearing out has an end in bytes and in time; a sender that goes on beyond it loses the connection.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    body::{Body, Bytes, HttpBody},
    extract::Request,
    http::header::EXPECT,
    middleware::Next,
    response::Response,
};
use hyper::body::{Frame, SizeHint};
use tokio::sync::oneshot;

/// Most that is thrown away: a mistake (a dump of a database as a plan) still learns its reason, and nobody is kept busy with more.
const THROWN_AWAY_BYTES: u64 = 32 << 20;
/// Longest that is spent on it: some megabytes over a slow line.
const THROWN_AWAY_TIME: Duration = Duration::from_secs(5);

/// A body that goes home when whoever reads it lets go of it.
struct Lent {
    body: Option<Body>,
    home: Option<oneshot::Sender<Body>>,
}

impl HttpBody for Lent {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        match &mut self.body {
            Some(body) => Pin::new(body).poll_frame(context),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(SizeHint::default, HttpBody::size_hint)
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let (Some(body), Some(home)) = (self.body.take(), self.home.take()) {
            drop(home.send(body));
        }
    }
}

/// The middleware.
pub(crate) async fn out(request: Request, next: Next) -> Response {
    // Whoever asks before sending has sent nothing, and won't after a refusal.
    if request.headers().contains_key(EXPECT) || request.body().is_end_stream() {
        return next.run(request).await;
    }
    let (parts, body) = request.into_parts();
    let (home, mut back) = oneshot::channel();
    let lent = Lent { body: Some(body), home: Some(home) };
    let response = next.run(Request::from_parts(parts, Body::new(lent))).await;
    if let Ok(rest) = back.try_recv() {
        drop(tokio::time::timeout(THROWN_AWAY_TIME, throw_away(rest)).await);
    }
    response
}

async fn throw_away(mut rest: Body) {
    let mut thrown = 0;
    while thrown < THROWN_AWAY_BYTES && !rest.is_end_stream() {
        let frame = std::future::poll_fn(|context| Pin::new(&mut rest).poll_frame(context)).await;
        let Some(Ok(frame)) = frame else { return };
        thrown += frame.data_ref().map_or(0, |data| data.len() as u64);
    }
}
