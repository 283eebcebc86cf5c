//! Whether a delivery is from whom its source belongs to, and fresh where it says when it was made.
//!
//! ```text
//!   shown:   Authorization or a header of its own ─▶ SHA-256 ─▶ one of the keys
//!   signed:  Grafana   hex HMAC-SHA256 of the body, or of `<unix seconds>:<body>`
//!            PagerDuty `v1=<hex>[,v1=…]`, any of them by any of the keys
//! ```
//!
//! Invariants: 1. Every key is tried, in constant time: how long it takes says nothing about which one fits. 2. Age is looked at
//! after the signature: a time that nobody signed is no time. 3. A header that is there twice is refused, not chosen from.

use base64::{Engine, prelude::BASE64_STANDARD};
use chrono::{DateTime, Utc};
use hmac::{Hmac, KeyInit, Mac};
use serde::Deserialize;
use sha2::Sha256;
use subtle::Choice;

use crate::{Credential, SecretDigest, Headers, Secret, Settings, headers::Found};

/// Oldest signed time of Grafana, and most that any sender's clock may be ahead: clocks differ, deliveries wait a little.
const WINDOW_S: i64 = 300;
const GRAFANA_SIGNATURE: &str = "x-grafana-alerting-signature";
const PAGERDUTY_SIGNATURE: &str = "x-pagerduty-signature";

/// A source's secret, as far as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Key {
    /// Verifies signatures.
    Signs(Secret),
    /// Is compared with what is shown.
    Shown(SecretDigest),
}

/// Why a delivery is not believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// A header that must be there is not.
    #[error("the delivery has no {0} header")]
    Missing(String),
    /// A header is there more than once.
    #[error("the delivery has more than one {0} header")]
    Repeated(String),
    /// What it shows has another form than the source's credential.
    #[error("the {0} header is not of the form that the source is configured for")]
    Form(String),
    /// What it shows is not a secret of the source.
    #[error("the credential is not one of the source's")]
    Credential,
    /// The signature fits no secret of the source, or something on the way changed body, signature or time.
    #[error("the signature does not fit: another secret, or changed on the way")]
    Signature,
    /// Well signed, and too old.
    #[error("the delivery is {age_s} s old, at most {most_s} s are believed")]
    Stale {
        /// How old.
        age_s: i64,
        /// The limit.
        most_s: i64,
    },
    /// Well signed, by a clock that is ahead.
    #[error("the delivery is from {ahead_s} s in the future, at most {most_s} s are believed: a clock is wrong")]
    Ahead {
        /// How far.
        ahead_s: i64,
        /// The limit.
        most_s: i64,
    },
}

impl AuthError {
    /// The word under which the refusal is recorded.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            AuthError::Missing(_) => "credential-missing",
            AuthError::Repeated(_) => "credential-repeated",
            AuthError::Form(_) => "credential-malformed",
            AuthError::Credential => "credential-wrong",
            AuthError::Signature => "signature-wrong",
            AuthError::Stale { .. } => "stale",
            AuthError::Ahead { .. } => "from-the-future",
        }
    }
}

/// Believes a delivery, or says why not.
///
/// # Errors
/// [`AuthError`].
pub fn authenticate(settings: &Settings, keys: &[Key], headers: &Headers, body: &[u8], now: DateTime<Utc>) -> Result<(), AuthError> {
    match settings {
        Settings::Alertmanager { credential } | Settings::CloudEvents { credential, .. } | Settings::Generic { credential, .. } => {
            shown(credential, keys, headers)
        }
        Settings::Grafana { timestamp_header: None } => grafana(keys, headers, &[body]),
        Settings::Grafana { timestamp_header: Some(header) } => {
            let text = once(headers, header)?;
            let seconds = unix_seconds(text).ok_or_else(|| AuthError::Form(header.clone()))?;
            grafana(keys, headers, &[text.as_bytes(), b":", body])?;
            fresh(now.timestamp().saturating_sub(seconds), WINDOW_S)
        }
        Settings::PagerDuty { max_age_s } => {
            pagerduty(keys, headers, body)?;
            // A body without a time is refused by whoever reads it.
            let Some(at) = occurred_at(body) else { return Ok(()) };
            fresh(now.timestamp().saturating_sub(at.timestamp()), i64::from(*max_age_s))
        }
    }
}

fn shown(credential: &Credential, keys: &[Key], headers: &Headers) -> Result<(), AuthError> {
    let authorization = |scheme: &str| {
        let text = once(headers, "authorization")?;
        let (found, rest) = text.split_once(' ').unwrap_or((text, ""));
        if found.eq_ignore_ascii_case(scheme) { Ok(rest.trim()) } else { Err(AuthError::Form("authorization".to_owned())) }
    };
    match credential {
        Credential::Bearer => known(keys, authorization("Bearer")?.as_bytes()),
        Credential::Scheme { scheme } => known(keys, authorization(scheme)?.as_bytes()),
        Credential::Header { header } => known(keys, once(headers, header)?.as_bytes()),
        Credential::Basic { user } => {
            let malformed = || AuthError::Form("authorization".to_owned());
            let pair = BASE64_STANDARD.decode(authorization("Basic")?).ok().ok_or_else(malformed)?;
            let colon = pair.iter().position(|byte| *byte == b':').ok_or_else(malformed)?;
            let same_user = SecretDigest::of(&pair[..colon]).same(&SecretDigest::of(user.as_bytes()));
            one_of(keys, &pair[colon + 1..], same_user)
        }
    }
}

fn known(keys: &[Key], secret: &[u8]) -> Result<(), AuthError> {
    one_of(keys, secret, Choice::from(1))
}

fn one_of(keys: &[Key], secret: &[u8], besides: Choice) -> Result<(), AuthError> {
    let found = SecretDigest::of(secret);
    let fits = keys.iter().fold(Choice::from(0), |fits, key| match key {
        Key::Shown(kept) => fits | kept.same(&found),
        Key::Signs(_) => fits,
    });
    if bool::from(fits & besides) { Ok(()) } else { Err(AuthError::Credential) }
}

fn grafana(keys: &[Key], headers: &Headers, signed: &[&[u8]]) -> Result<(), AuthError> {
    let signature = once(headers, GRAFANA_SIGNATURE)?;
    let signature = digest(signature).ok_or_else(|| AuthError::Form(GRAFANA_SIGNATURE.to_owned()))?;
    if signed_by_any(keys, signed, &signature) { Ok(()) } else { Err(AuthError::Signature) }
}

/// Entries of schemes that are not known here are passed over: PagerDuty may add one beside `v1`.
fn pagerduty(keys: &[Key], headers: &Headers, body: &[u8]) -> Result<(), AuthError> {
    let entries = once(headers, PAGERDUTY_SIGNATURE)?.split(',').map(str::trim);
    let signatures: Vec<[u8; 32]> = entries.filter_map(|entry| digest(entry.strip_prefix("v1=")?)).collect();
    if signatures.is_empty() {
        return Err(AuthError::Form(PAGERDUTY_SIGNATURE.to_owned()));
    }
    // Not `any`, which would stop at the first that fits.
    let fitting = signatures.iter().filter(|signature| signed_by_any(keys, &[body], &signature[..])).count();
    if fitting > 0 { Ok(()) } else { Err(AuthError::Signature) }
}

fn signed_by_any(keys: &[Key], signed: &[&[u8]], signature: &[u8]) -> bool {
    let fitting = keys.iter().filter(|key| match key {
        Key::Signs(secret) => {
            let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(secret.expose()).expect("HMAC takes keys of any length");
            signed.iter().for_each(|part| mac.update(part));
            mac.verify_slice(signature).is_ok()
        }
        Key::Shown(_) => false,
    });
    fitting.count() > 0
}

/// Lower case only, as both senders write it: a signature has one form.
fn digest(text: &str) -> Option<[u8; 32]> {
    let lower = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    lower.then(|| hex::decode(text).ok()?.try_into().ok())?
}

fn unix_seconds(text: &str) -> Option<i64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

fn fresh(age_s: i64, most_s: i64) -> Result<(), AuthError> {
    if age_s > most_s {
        return Err(AuthError::Stale { age_s, most_s });
    }
    if age_s < -WINDOW_S {
        return Err(AuthError::Ahead { ahead_s: -age_s, most_s: WINDOW_S });
    }
    Ok(())
}

fn once<'a>(headers: &'a Headers, name: &str) -> Result<&'a str, AuthError> {
    match headers.find(&name.to_ascii_lowercase()) {
        Found::Once(value) => Ok(value),
        Found::Missing => Err(AuthError::Missing(name.to_owned())),
        Found::Repeated => Err(AuthError::Repeated(name.to_owned())),
    }
}

fn occurred_at(body: &[u8]) -> Option<DateTime<Utc>> {
    #[derive(Deserialize)]
    struct Body {
        event: Event,
    }
    #[derive(Deserialize)]
    struct Event {
        occurred_at: DateTime<Utc>,
    }
    serde_json::from_slice::<Body>(body).ok().map(|body| body.event.occurred_at)
}
