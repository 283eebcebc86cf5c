//! Deliveries of alerts, from whoever monitors.
//!
//! ```text
//!   POST ─▶ source? ─▶ body ≤ 1 MiB ─▶ believed? ─▶ read? ─▶ stored, with all that it means ─▶ 202
//!            404         413            401          400        503 if it can't be: the sender comes again
//! ```
//!
//! Invariants: 1. Stored first, answered then: 202 means that it is in the database. 2. Every refusal of a source's delivery is
//! stored as well, and changes nothing else. 3. What policies make of it is no matter here: a 4xx makes senders drop, and
//! PagerDuty switch the endpoint off. 4. No token of ours is asked for, over TLS and over the socket alike.

use std::{pin::Pin, time::Duration};

use alerts::{Alert, AuthError, DecodeError, Headers, Kind, Settings, SourceName, authenticate, decode};
use api::{Code, triggers::DeliveryTaken};
use axum::{
    Json,
    body::{Body, HttpBody},
    extract::{Path, Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use sha2::{Digest, Sha256};
use store::{
    trigger_sources::Judging,
    triggers::{NewDelivery, Taken, Verdict},
};

use crate::{app::App, listen::Peer, problem::Refusal};

/// Largest body: PagerDuty's end at 256 KiB, a thousand alerts of Alertmanager at about this.
const BODY_BYTES: usize = 1 << 20;
/// So much more is read and thrown away, since many senders read no answer before they have sent all.
const DRAINED_BYTES: usize = 8 << 20;
/// Longest a body may take: senders give up after 5 (PagerDuty) to 10 seconds (Alertmanager) themselves.
const BODY_TIME: Duration = Duration::from_secs(10);
/// What is kept of a body that was refused: enough to see what it was.
const KEPT_REFUSED_BYTES: usize = 4 << 10;
/// Most characters of the words about a refusal.
const MOST_DETAIL: usize = 500;

/// Why a delivery is refused.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("the body has more than {BODY_BYTES} bytes")]
    TooLarge,
    #[error("the body did not arrive whole within {BODY_TIME:?}")]
    Incomplete,
    #[error(transparent)]
    NotBelieved(#[from] AuthError),
    #[error(transparent)]
    Unreadable(#[from] DecodeError),
}

impl Refused {
    fn reason(&self) -> &'static str {
        match self {
            Refused::TooLarge => "too-large",
            Refused::Incomplete => "incomplete",
            Refused::NotBelieved(error) => error.reason(),
            Refused::Unreadable(error) => error.reason(),
        }
    }

    /// What is refused may be quoted in it: within a limit, and without U+0000, which Postgres keeps in no text.
    fn detail(&self) -> String {
        self.to_string().chars().map(|c| if c == '\0' { '\u{fffd}' } else { c }).take(MOST_DETAIL).collect()
    }

    fn answer(&self, source: &SourceName) -> Refusal {
        let code = match self {
            Refused::TooLarge => Code::DeliveryTooLarge,
            Refused::NotBelieved(_) => Code::DeliveryNotBelieved,
            Refused::Incomplete | Refused::Unreadable(_) => Code::DeliveryUnreadable,
        };
        let mut refusal = Refusal::new(code, format!("source {source}: {}", self.detail()));
        if let Refused::Unreadable(DecodeError::MediaType(_)) = self {
            refusal.0.status = StatusCode::UNSUPPORTED_MEDIA_TYPE.as_u16();
        }
        refusal
    }
}

pub(super) async fn take(State(app): State<App>, Path(name): Path<String>, request: Request) -> Result<Response, Refusal> {
    let (source, judging) = known(&app, &name).await?;
    let settings = Settings::from_kept(&judging.settings);
    let settings = settings.map_err(|error| Refusal::new(Code::Internal, format!("source {source}: {error}")))?;
    let remote = remote(request.extensions().get::<Peer>());
    let headers = read_headers(request.headers());
    let body = read_body(request.into_body()).await;
    let whole = body.as_deref().unwrap_or_default();
    let judged = match body {
        Ok(_) => judge(&settings, &judging, &headers, whole),
        Err(none) => Err(none.into()),
    };
    let detail = judged.as_ref().err().map(Refused::detail).unwrap_or_default();
    let (verdict, kept) = match &judged {
        Ok(alerts) => (Verdict::Accepted(alerts), whole),
        Err(refused) => (Verdict::Refused { reason: refused.reason(), detail: &detail }, first(whole, KEPT_REFUSED_BYTES)),
    };
    let measured = body.is_ok().then(|| (Sha256::digest(whole).into(), i64::try_from(whole.len()).unwrap_or(i64::MAX)));
    let new = NewDelivery {
        source: source.as_str(),
        remote: &remote,
        headers: &headers.kept(),
        body: measured,
        kept_body: body.is_ok().then_some(kept),
        verdict,
    };
    let taken = app.store.take_delivery(&new).await?.ok_or_else(|| unknown(&name))?;
    match judged {
        Ok(alerts) => answered(&app, &source, &taken, alerts.len()),
        Err(refused) => {
            tracing::info!(%source, remote, reason = refused.reason(), "a delivery was refused");
            app.tally.count(source.as_str(), "refused", refused.reason());
            Err(refused.answer(&source))
        }
    }
}

fn judge(settings: &Settings, judging: &Judging, headers: &Headers, body: &[u8]) -> Result<Vec<Alert>, Refused> {
    authenticate(settings, &judging.keys, headers, body, judging.now)?;
    Ok(decode(settings, headers, body)?)
}

fn answered(app: &App, source: &SourceName, taken: &Taken, alerts: usize) -> Result<Response, Refusal> {
    let counted = taken.verdict == "accepted";
    app.tally.count(source.as_str(), if counted { "accepted" } else { "ignored" }, if counted { "" } else { "disabled" });
    if counted {
        app.wakes.notify_one();
    }
    let delivery = taken.delivery.ok_or_else(|| Refusal::new(Code::Internal, "a delivery was accepted and has no number"))?;
    tracing::info!(%source, delivery, alerts, changed = taken.changed, verdict = taken.verdict, "a delivery was taken");
    Ok((StatusCode::ACCEPTED, Json(DeliveryTaken { delivery, verdict: taken.verdict.clone(), alerts })).into_response())
}

/// What a redirection makes of a delivery: a sender that follows it has lost the alert, and believes it is delivered.
pub(super) async fn not_taken(Path(name): Path<String>) -> Response {
    let detail = format!(
        "/v1/triggers/{name} takes POST only. If this was a delivery, something before this server answered it with a redirection, and the \
         alert is lost: let the sender post to the address of this server itself, and set `follow_redirects: false`"
    );
    let mut refusal = Refusal::new(Code::UnknownPath, detail);
    refusal.0.status = StatusCode::METHOD_NOT_ALLOWED.as_u16();
    let mut response = refusal.into_response();
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST, OPTIONS"));
    response
}

/// The handshake by which a sender of CloudEvents asks whether it may send. It is no authentication: each delivery still proves
/// itself.
pub(super) async fn shake_hands(State(app): State<App>, Path(name): Path<String>, headers: HeaderMap) -> Result<Response, Refusal> {
    let (source, judging) = known(&app, &name).await?;
    let kind = Settings::from_kept(&judging.settings).map(|settings| settings.kind());
    let origin = headers.get("webhook-request-origin").filter(|_| kind == Ok(Kind::CloudEvents));
    let Some(origin) = origin else {
        let detail = format!("source {source} shakes hands with senders of CloudEvents only, who name their WebHook-Request-Origin");
        return Err(Refusal::new(Code::InvalidRequest, detail));
    };
    let allowed = [("webhook-allowed-origin", origin.clone()), ("webhook-allowed-rate", HeaderValue::from_static("*"))];
    Ok((StatusCode::OK, allowed, [(header::ALLOW, HeaderValue::from_static("POST, OPTIONS"))]).into_response())
}

async fn known(app: &App, name: &str) -> Result<(SourceName, Judging), Refusal> {
    let Ok(source) = name.parse::<SourceName>() else { return Err(nobody(app, name)) };
    let judging = app.store.judging(source.as_str()).await?;
    judging.map(|judging| (source, judging)).ok_or_else(|| nobody(app, name))
}

fn nobody(app: &App, name: &str) -> Refusal {
    app.tally.count("", "refused", "unknown-source");
    unknown(name)
}

fn unknown(name: &str) -> Refusal {
    Refusal::new(Code::UnknownSource, format!("no source of alerts is called {name:?}"))
}

fn remote(peer: Option<&Peer>) -> String {
    match peer {
        Some(Peer::Network { from, .. }) => from.ip().to_canonical().to_string(),
        Some(Peer::Local { uid }) => format!("local, uid {uid}"),
        None => "unknown".to_owned(),
    }
}

fn read_headers(headers: &HeaderMap) -> Headers {
    headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect()
}

/// Why there is no body.
#[derive(Clone, Copy, Debug)]
enum NoBody {
    TooLarge,
    Incomplete,
}

impl From<NoBody> for Refused {
    fn from(none: NoBody) -> Self {
        match none {
            NoBody::TooLarge => Refused::TooLarge,
            NoBody::Incomplete => Refused::Incomplete,
        }
    }
}

async fn read_body(body: Body) -> Result<Vec<u8>, NoBody> {
    if body.size_hint().lower() > DRAINED_BYTES as u64 {
        return Err(NoBody::TooLarge);
    }
    tokio::time::timeout(BODY_TIME, drained(body)).await.unwrap_or(Err(NoBody::Incomplete))
}

async fn drained(mut body: Body) -> Result<Vec<u8>, NoBody> {
    let (mut kept, mut read) = (Vec::new(), 0_usize);
    while let Some(frame) = std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        let Ok(frame) = frame else { return Err(NoBody::Incomplete) };
        let Ok(bytes) = frame.into_data() else { continue };
        read = read.saturating_add(bytes.len());
        if read <= BODY_BYTES {
            kept.extend_from_slice(&bytes);
        } else if read > DRAINED_BYTES {
            break;
        } else {
            kept.clear();
        }
    }
    if read <= BODY_BYTES { Ok(kept) } else { Err(NoBody::TooLarge) }
}

fn first(bytes: &[u8], most: usize) -> &[u8] {
    &bytes[..bytes.len().min(most)]
}
