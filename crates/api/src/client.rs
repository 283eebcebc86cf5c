//! A client for people's programs and for agents: over the server's Unix socket, or over HTTPS.
//!
//! Invariants: 1. Over the network the server is known by a CA: its file, or its fingerprint. 2. A problem is an error that
//! carries the problem; everything else that goes wrong says what was asked of whom.

mod tls;

use std::{path::PathBuf, time::Duration};

use reqwest::{Method, StatusCode, header};
use serde::{Serialize, de::DeserializeOwned};

use crate::{Code, Problem, problem};
pub use tls::{Identity, Trust, TrustError};

/// Where the server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// `unix:PATH`.
    Unix(PathBuf),
    /// `https://HOST:PORT`.
    Https(String),
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The server refused.
    #[error("{0}")]
    Problem(Box<Problem>),
    /// It can't be reached, or broke off.
    #[error("{server} does not answer {asked}")]
    Unreachable {
        /// Whom.
        server: String,
        /// What.
        asked: String,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// Its answer can't be read.
    #[error("{server} answered {asked} with {status} and something that can't be read")]
    Unreadable {
        /// Whom.
        server: String,
        /// What.
        asked: String,
        /// Status.
        status: StatusCode,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// The address is none.
    #[error("{0:?} is not a server address of the form unix:PATH or https://HOST:PORT")]
    Address(String),
    /// The certificates can't be used.
    #[error("the certificates for the server can't be used")]
    Trust(#[from] TrustError),
    /// No client could be made.
    #[error("no client could be made")]
    Setup(#[source] reqwest::Error),
}

impl ClientError {
    /// The problem, if the server refused.
    #[must_use]
    pub fn problem(&self) -> Option<&Problem> {
        match self {
            ClientError::Problem(problem) => Some(problem),
            ClientError::Unreachable { .. }
            | ClientError::Unreadable { .. }
            | ClientError::Address(_)
            | ClientError::Trust(_)
            | ClientError::Setup(_) => None,
        }
    }
}

impl std::str::FromStr for Address {
    type Err = ClientError;
    fn from_str(text: &str) -> Result<Self, ClientError> {
        let bad = || ClientError::Address(text.to_owned());
        if let Some(path) = text.strip_prefix("unix:").filter(|path| !path.is_empty()) {
            return Ok(Address::Unix(path.trim_start_matches("//").into()));
        }
        let rest = text.strip_prefix("https://").ok_or_else(bad)?.trim_end_matches('/');
        if rest.is_empty() || rest.contains(['/', '?', '#', '@']) {
            return Err(bad());
        }
        Ok(Address::Https(rest.to_owned()))
    }
}

/// A check of the database takes twenty seconds at most.
const CHECK_PATIENCE: Duration = Duration::from_secs(30);
const CHECK_PAUSE: Duration = Duration::from_millis(500);

/// A client of one server.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    base: String,
    server: String,
    token: Option<String>,
    trace: Option<String>,
    checking: Option<fn(&Problem)>,
}

impl Client {
    /// Over the server's socket: the kernel says who we are.
    ///
    /// # Errors
    /// [`ClientError::Setup`].
    pub fn unix(path: impl Into<PathBuf>) -> Result<Self, ClientError> {
        let path = path.into();
        let server = format!("unix:{}", path.display());
        let config = tls::config(&Trust::Nobody, None)?;
        let builder = reqwest::Client::builder().unix_socket(path).tls_backend_preconfigured(config);
        Ok(Self { http: built(builder)?, base: "http://localhost".to_owned(), server, token: None, trace: None, checking: None })
    }

    /// Over the network. `identity` is an agent's certificate, `token` a person's.
    ///
    /// # Errors
    /// [`ClientError::Trust`], [`ClientError::Setup`].
    pub fn https(authority: &str, trust: &Trust, identity: Option<&Identity>, token: Option<String>) -> Result<Self, ClientError> {
        let config = tls::config(trust, identity)?;
        let builder = reqwest::Client::builder().https_only(true).tls_backend_preconfigured(config);
        let base = format!("https://{authority}");
        Ok(Self { http: built(builder)?, server: base.clone(), base, token, trace: None, checking: None })
    }

    /// Whom it asks.
    #[must_use]
    pub fn server(&self) -> &str {
        &self.server
    }

    /// The same client, whose requests belong to this W3C trace parent.
    #[must_use]
    pub fn traced(mut self, traceparent: Option<String>) -> Self {
        self.trace = traceparent;
        self
    }

    /// The same client, which asks again while the server's database is being checked, at most half a minute; `told` says so, once.
    /// Nothing was changed by what was refused for that.
    #[must_use]
    pub fn patient(mut self, told: fn(&Problem)) -> Self {
        self.checking = Some(told);
        self
    }

    /// Asks for something.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.ask(Method::GET, path, None::<&()>, None, Duration::from_secs(30)).await
    }

    /// Asks for a text.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn text(&self, path: &str) -> Result<String, ClientError> {
        let request = self.request(Method::GET, path, Duration::from_secs(30));
        let answer = request.send().await.map_err(|source| self.unreachable("GET", path, source))?;
        answer.text().await.map_err(|source| self.unreachable("GET", path, source))
    }

    /// Asks for a file.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn file(&self, path: &str, limit: Duration) -> Result<Vec<u8>, ClientError> {
        let answer = self.request(Method::GET, path, limit).send().await.map_err(|source| self.unreachable("GET", path, source))?;
        let status = answer.status();
        let refused = answer.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind == problem::MEDIA_TYPE);
        let bytes = answer.bytes().await.map_err(|source| self.unreachable("GET", path, source))?;
        if !refused {
            return Ok(bytes.into());
        }
        let unreadable = |source| ClientError::Unreadable { server: self.server.clone(), asked: format!("GET {path}"), status, source };
        Err(ClientError::Problem(serde_json::from_slice(&bytes).map_err(unreadable)?))
    }

    /// Asks for something to be done; without a key it must be harmless to repeat, or not be repeated.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, ClientError> {
        self.ask(Method::POST, path, Some(body), None, Duration::from_secs(30)).await
    }

    /// The same, with a key that makes it count once.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn post_once<T: DeserializeOwned>(&self, path: &str, key: &str, body: &impl Serialize) -> Result<T, ClientError> {
        self.ask(Method::POST, path, Some(body), Some(key), Duration::from_secs(30)).await
    }

    /// The same, waiting at most this long for the answer.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn post_within<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize, limit: Duration) -> Result<T, ClientError> {
        self.ask(Method::POST, path, Some(body), None, limit).await
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
        key: Option<&str>,
        limit: Duration,
    ) -> Result<T, ClientError> {
        let until = tokio::time::Instant::now() + CHECK_PATIENCE;
        let mut told = false;
        loop {
            let answer = self.ask_once(method.clone(), path, body, key, limit).await;
            let checked = answer.as_ref().err().and_then(ClientError::problem).filter(|problem| problem.code() == Some(Code::StoreChecking));
            match (checked, self.checking) {
                (Some(problem), Some(tell)) if tokio::time::Instant::now() < until => {
                    if !std::mem::replace(&mut told, true) {
                        tell(problem);
                    }
                }
                _ => return answer,
            }
            tokio::time::sleep(CHECK_PAUSE).await;
        }
    }

    async fn ask_once<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
        key: Option<&str>,
        limit: Duration,
    ) -> Result<T, ClientError> {
        let mut request = self.request(method.clone(), path, limit);
        if let Some(body) = body {
            request = request.json(body);
        }
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        let answer = request.send().await.map_err(|source| self.unreachable(method.as_str(), path, source))?;
        let status = answer.status();
        let refused = answer.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind == problem::MEDIA_TYPE);
        let bytes = answer.bytes().await.map_err(|source| self.unreachable(method.as_str(), path, source))?;
        let unreadable = |source| ClientError::Unreadable { server: self.server.clone(), asked: format!("{method} {path}"), status, source };
        if refused {
            return Err(ClientError::Problem(serde_json::from_slice(&bytes).map_err(unreadable)?));
        }
        serde_json::from_slice(&bytes).map_err(unreadable)
    }

    fn request(&self, method: Method, path: &str, limit: Duration) -> reqwest::RequestBuilder {
        let mut request = self.http.request(method, format!("{}{path}", self.base)).timeout(limit);
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        if let Some(trace) = &self.trace {
            request = request.header("traceparent", trace);
        }
        request
    }

    fn unreachable(&self, method: &str, path: &str, source: reqwest::Error) -> ClientError {
        ClientError::Unreachable { server: self.server.clone(), asked: format!("{method} {path}"), source: source.without_url() }
    }
}

fn built(builder: reqwest::ClientBuilder) -> Result<reqwest::Client, ClientError> {
    let agent = concat!("switchback/", env!("CARGO_PKG_VERSION"));
    let builder = builder.no_proxy().user_agent(agent).connect_timeout(Duration::from_secs(10)).redirect(reqwest::redirect::Policy::none());
    builder.build().map_err(ClientError::Setup)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails where its sentence does not hold")]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_socket_or_https() {
        assert_eq!("unix:/run/sb/api.sock".parse::<Address>().unwrap(), Address::Unix("/run/sb/api.sock".into()));
        assert_eq!("https://dr.example:7443/".parse::<Address>().unwrap(), Address::Https("dr.example:7443".into()));
        for text in ["", "unix:", "http://dr.example", "https://", "https://a/b", "https://u@h:1"] {
            assert!(text.parse::<Address>().is_err(), "{text}");
        }
    }

    #[tokio::test]
    async fn a_server_that_is_not_there_is_named() {
        let client = Client::unix("/nonexistent/api.sock").unwrap();
        let error = client.get::<serde_json::Value>("/v1/items").await.unwrap_err();
        assert_eq!(error.to_string(), "unix:/nonexistent/api.sock does not answer GET /v1/items");
    }
}
