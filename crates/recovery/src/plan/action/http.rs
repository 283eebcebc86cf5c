//! A request to a web service.

use std::{collections::BTreeMap, fmt, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de};

use super::{InvalidAction, MOST_TEXT, invalid};
use crate::{SecretName, span::Span};

/// Most headers, the longest name and the longest value: what every server takes.
const MOST_HEADERS: usize = 20;
const LONGEST_NAME: usize = 64;
const LONGEST_VALUE: usize = 1_000;
/// Longest address: what every server takes.
const LONGEST_URL: usize = 2_000;
/// Most ranges of statuses.
const MOST_RANGES: usize = 10;

/// What is asked. `GET`, `PUT` and `DELETE` are done again until they are known to be done; the others at most once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Http {
    /// GET, POST, PUT, PATCH or DELETE.
    pub method: Method,
    /// `http://` or `https://`, without a password. Redirects are followed on the same host only.
    pub url: String,
    /// Beside those that say which plan asks.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// Sent as it stands. Left out, what asks is told as JSON, unless the method has no body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// Statuses that mean that it was done.
    #[serde(default = "any_2xx")]
    pub expect: Vec<Statuses>,
    /// A header whose value the agent has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_header: Option<SecretHeader>,
    /// Doing it again is harmless although its method does not say so: the receiver heeds `Idempotency-Key`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub repeatable: bool,
    /// Longest single attempt, from looking the name up to the last byte of the answer.
    #[serde(default = "half_a_minute")]
    #[schemars(with = "String")]
    pub within: Span,
}

/// A header whose value the agent has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct SecretHeader {
    /// Such as `authorization`.
    pub name: String,
    /// Under which the agent keeps the whole value.
    #[schemars(with = "String")]
    pub secret: SecretName,
}

/// A method of HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum Method {
    /// Looks.
    Get,
    /// Does something each time.
    Post,
    /// Puts something there.
    Put,
    /// Changes something each time.
    Patch,
    /// Takes something away.
    Delete,
}

impl Method {
    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Method::Get => "GET",
            Method::Post => "POST",
            Method::Put => "PUT",
            Method::Patch => "PATCH",
            Method::Delete => "DELETE",
        }
    }

    /// Whether the same request twice is the same as once (RFC 9110, 9.2.2).
    #[must_use]
    pub fn is_idempotent(self) -> bool {
        matches!(self, Method::Get | Method::Put | Method::Delete)
    }

    /// Whether it has a body by its nature.
    #[must_use]
    pub fn has_body(self) -> bool {
        matches!(self, Method::Post | Method::Put | Method::Patch)
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Statuses from one to another: `200-299`, or one: `204`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(into = "String")]
#[schemars(with = "String")]
pub struct Statuses {
    first: u16,
    last: u16,
}

/// A text that is no range of statuses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no status and no range of statuses: 100 to 599, such as 204 or 200-299")]
pub struct InvalidStatuses {
    /// What was given.
    pub text: String,
}

impl Statuses {
    /// Whether a status is one of these.
    #[must_use]
    pub fn contains(self, status: u16) -> bool {
        (self.first..=self.last).contains(&status)
    }
}

impl FromStr for Statuses {
    type Err = InvalidStatuses;
    fn from_str(text: &str) -> Result<Self, InvalidStatuses> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let status = |text: &str| text.parse::<u16>().ok().filter(|status| (100..600).contains(status));
        match (status(first), status(last)) {
            (Some(first), Some(last)) if first <= last => Ok(Self { first, last }),
            _ => Err(InvalidStatuses { text: text.to_owned() }),
        }
    }
}

impl fmt::Display for Statuses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last { write!(f, "{}", self.first) } else { write!(f, "{}-{}", self.first, self.last) }
    }
}

impl From<Statuses> for String {
    fn from(statuses: Statuses) -> Self {
        statuses.to_string()
    }
}

/// A number is a status: people write `[204, 300-399]`.
impl<'de> Deserialize<'de> for Statuses {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        struct Either;
        impl de::Visitor<'_> for Either {
            type Value = Statuses;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a status or a range such as 200-299")
            }
            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Statuses, E> {
                number.to_string().parse().map_err(E::custom)
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Statuses, E> {
                text.parse().map_err(E::custom)
            }
        }
        input.deserialize_any(Either)
    }
}

fn any_2xx() -> Vec<Statuses> {
    vec![Statuses { first: 200, last: 299 }]
}

fn half_a_minute() -> Span {
    Span::seconds(30)
}

impl Http {
    /// Whether a status means that it was done.
    #[must_use]
    pub fn expects(&self, status: u16) -> bool {
        self.expect.iter().any(|statuses| statuses.contains(status))
    }

    pub(super) fn check(&self) -> Result<(), InvalidAction> {
        url(&self.url)?;
        if self.headers.len() > MOST_HEADERS {
            return Err(InvalidAction::Count { field: "headers", count: self.headers.len(), least: 0, most: MOST_HEADERS });
        }
        for (name, value) in &self.headers {
            header_name(name)?;
            ours(name)?;
            header_value(name, value)?;
        }
        if let Some(secret) = &self.secret_header {
            header_name(&secret.name)?;
            reserved(&secret.name)?;
        }
        if let Some(body) = &self.body {
            if body.len() > MOST_TEXT {
                return Err(InvalidAction::Length { field: "body", length: body.len(), limit: MOST_TEXT });
            }
            if self.method == Method::Get {
                return Err(InvalidAction::Text { field: "a body beside", text: "GET".to_owned(), rule: "is never sent" });
            }
        }
        let ranges = self.expect.len();
        if !(1..=MOST_RANGES).contains(&ranges) {
            return Err(InvalidAction::Count { field: "expect", count: ranges, least: 1, most: MOST_RANGES });
        }
        Ok(())
    }
}

fn url(text: &str) -> Result<(), InvalidAction> {
    invalid::length("url", text, LONGEST_URL)?;
    let refused = |rule| InvalidAction::Text { field: "url", text: text.to_owned(), rule };
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let rest = rest.ok_or_else(|| refused("begins with neither http:// nor https://"))?;
    if !rest.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'\\' | b'"' | b'<' | b'>')) {
        return Err(refused("has a character that must be written as %XX"));
    }
    if rest.contains('#') {
        return Err(refused("has a fragment, which is never sent"));
    }
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    if authority.contains('@') {
        // What may be a password is not told.
        let text = format!("{}://…@{}", text.split(':').next().unwrap_or_default(), authority.rsplit('@').next().unwrap_or_default());
        return Err(InvalidAction::Text { field: "url", text, rule: "carries a user or a password; name a secret in secret-header instead" });
    }
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        Some(_) | None => (authority, None),
    };
    if port.is_some_and(|port| port.parse::<u16>().ok().is_none_or(|port| port == 0)) {
        return Err(refused("has no port from 1 to 65535 behind the colon"));
    }
    let v6 = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    v6.map_or_else(|| invalid::host(host), |inner| inner.parse::<std::net::Ipv6Addr>().map(drop).map_err(|_no| refused("has no IPv6 address in its brackets")))
}

fn header_name(name: &str) -> Result<(), InvalidAction> {
    invalid::length("a header's name", name, LONGEST_NAME)?;
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.bytes().all(token) {
        return Ok(());
    }
    Err(InvalidAction::Text { field: "a header's name", text: name.to_owned(), rule: "is no token" })
}

fn header_value(name: &str, value: &str) -> Result<(), InvalidAction> {
    if value.len() > LONGEST_VALUE {
        return Err(InvalidAction::Length { field: "a header's value", length: value.len(), limit: LONGEST_VALUE });
    }
    if value.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ' || byte == b'\t') {
        return Ok(());
    }
    Err(InvalidAction::Text { field: "the value of header", text: name.to_owned(), rule: "has a character that is not printable" })
}

/// Names that a plan may not set in the clear.
fn ours(name: &str) -> Result<(), InvalidAction> {
    let refused = |rule| Err(InvalidAction::Header { name: name.to_owned(), rule });
    if ["authorization", "cookie", "proxy-authorization"].iter().any(|secret| name.eq_ignore_ascii_case(secret)) {
        return refused("it carries a secret: name one in secret-header");
    }
    reserved(name)
}

/// Names that nobody but us sets.
fn reserved(name: &str) -> Result<(), InvalidAction> {
    let lower = name.to_ascii_lowercase();
    let transport = ["host", "content-length", "transfer-encoding", "connection", "te", "trailer", "upgrade", "expect"];
    if transport.contains(&lower.as_str()) {
        return Err(InvalidAction::Header { name: name.to_owned(), rule: "it belongs to the transport" });
    }
    if lower == "idempotency-key" || lower.starts_with("switchback-") {
        return Err(InvalidAction::Header { name: name.to_owned(), rule: "it says which plan asks, and is set by itself" });
    }
    Ok(())
}
