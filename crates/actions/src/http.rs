//! A request to a web service.
//!
//! Invariants: 1. A redirect is followed on the same scheme, host and port alone: neither a secret nor a body goes elsewhere.
//! 2. Only a connection that could not be made is certain to have done nothing.

use std::{path::Path, time::Duration};

use provider::{ActionError, Done, Said};
use recovery::plan::action::{ActionContext, Http, Method};
use reqwest::{Certificate, Client, header::HeaderValue, redirect::Policy};

use crate::{
    MOST_OUTPUT, lacks,
    limits::{Limits, Over},
    owned, refused,
};

/// Longest wait for a connection: a host that is off answers nothing at all.
const CONNECT: Duration = Duration::from_secs(10);
/// Most redirects, all to the same host.
const MOST_REDIRECTS: usize = 5;
/// Longest answer that is read; of it a part is kept.
const MOST_ANSWER: usize = 4 << 20;
/// Words of a secret that are shorter are words.
const SHORTEST_TOKEN: usize = 8;
/// Answers that say "not now" (RFC 9110, RFC 6585).
const NOT_NOW: [u16; 5] = [429, 500, 502, 503, 504];

pub(crate) async fn carry_out(dir: &Path, http: &Http, context: &ActionContext, mut limits: Limits<'_>) -> Result<Done, ActionError> {
    let secret = http.secret_header.as_ref().map(|header| owned::secret(dir, &header.secret)).transpose()?;
    let secret = secret.as_ref().map(owned::Secret::text);
    let client = client(dir)?;
    let request = request(&client, http, context, secret)?;
    let mut said = Said::within(MOST_OUTPUT);
    let asked = limits.wait(asked(&client, request, &mut said)).await;
    let said = cleaned(said, secret);
    match asked {
        Ok(Ok(status)) => judged(http, status, said),
        Ok(Err(error)) => Err(told(http, &error, said)),
        Err(Over::Unwanted) => Err(ActionError::Stopped),
        Err(Over::Late) => Err(ActionError::Unknown { detail: format!("{} {} had not answered after {}", http.method, http.url, limits.within()), said }),
    }
}

/// Certificates of authorities beside those of the system.
pub(crate) fn authorities(dir: &Path) -> Result<Vec<Certificate>, String> {
    let path = dir.join("ca.crt");
    match owned::configuration(&path) {
        Ok(pem) => {
            let read = Certificate::from_pem_bundle(pem.as_bytes()).map_err(|error| format!("{} can't be read: {error}", path.display()))?;
            if read.is_empty() { Err(format!("{} holds no certificate", path.display())) } else { Ok(read) }
        }
        Err(owned::NotOwned::Missing(_)) => Ok(vec![]),
        Err(why) => Err(why.to_string()),
    }
}

fn client(dir: &Path) -> Result<Client, ActionError> {
    // Somebody may have installed one before.
    drop(rustls::crypto::ring::default_provider().install_default());
    let same_host = Policy::custom(|attempt| {
        let first = attempt.previous().first();
        let place = |url: &reqwest::Url| (url.scheme().to_owned(), url.host_str().map(str::to_owned), url.port_or_known_default());
        let same = first.is_some_and(|first| place(first) == place(attempt.url()));
        if same && attempt.previous().len() <= MOST_REDIRECTS { attempt.follow() } else { attempt.stop() }
    });
    let authorities = authorities(dir).map_err(|why| lacks(why, "put certificates in PEM there, or remove the file"))?;
    let builder = Client::builder().redirect(same_host).no_proxy().connect_timeout(CONNECT);
    let builder = builder.user_agent(concat!("switchback-agent/", env!("CARGO_PKG_VERSION")));
    let builder = authorities.into_iter().fold(builder, reqwest::ClientBuilder::add_root_certificate);
    builder.build().map_err(|error| lacks(format!("no request can be made here: {}", causes(&error)), "look at the system's certificates (package ca-certificates)"))
}

fn request(client: &Client, http: &Http, context: &ActionContext, secret: Option<&str>) -> Result<reqwest::Request, ActionError> {
    let method = match http.method {
        Method::Get => reqwest::Method::GET,
        Method::Post => reqwest::Method::POST,
        Method::Put => reqwest::Method::PUT,
        Method::Patch => reqwest::Method::PATCH,
        Method::Delete => reqwest::Method::DELETE,
    };
    let mut request = client.request(method, &http.url);
    for (name, value) in context.headers() {
        request = request.header(name, value);
    }
    let typed = http.headers.keys().any(|name| name.eq_ignore_ascii_case("content-type"));
    for (name, value) in &http.headers {
        request = request.header(name, value);
    }
    if let (Some(header), Some(secret)) = (&http.secret_header, secret) {
        let mut value = HeaderValue::from_str(secret).map_err(|_value| lacks(format!("secret {} can't be the value of a header", header.secret), "it must be one line"))?;
        value.set_sensitive(true);
        request = request.header(&header.name, value);
    }
    request = match (&http.body, http.method.has_body()) {
        (Some(body), _) => request.body(body.clone()),
        (None, true) => {
            let told = serde_json::to_string(context).map_err(|error| refused(format!("what asks can't be told: {error}"), "report this"))?;
            let request = if typed { request } else { request.header("content-type", "application/json") };
            request.body(told)
        }
        (None, false) => request,
    };
    request.build().map_err(|error| refused(format!("{} {} is no request: {}", http.method, http.url, causes(&error)), "correct the plan"))
}

/// What is answered, as far as it is read.
async fn asked(client: &Client, request: reqwest::Request, said: &mut Said) -> Result<u16, reqwest::Error> {
    let mut answer = client.execute(request).await?;
    let status = answer.status().as_u16();
    let mut read = 0;
    while read < MOST_ANSWER {
        // The status is the answer; a body that breaks off does not change it.
        let Ok(Some(part)) = answer.chunk().await else { break };
        read += part.len();
        said.hear(&part);
    }
    Ok(status)
}

fn judged(http: &Http, status: u16, said: Said) -> Result<Done, ActionError> {
    let told = format!("{} {} answers {status}", http.method, http.url);
    if http.expects(status) {
        return Ok(Done { evidence: told, status: Some(status.into()), said });
    }
    let again = http.repeatable || http.method.is_idempotent();
    if again && NOT_NOW.contains(&status) {
        return Err(ActionError::NotNow { detail: told });
    }
    let told = if (300..400).contains(&status) { format!("{told}, a redirect that is not followed: it leads elsewhere or too far") } else { told };
    Err(ActionError::Failed { detail: told, status: Some(status.into()), said })
}

fn told(http: &Http, error: &reqwest::Error, said: Said) -> ActionError {
    let detail = causes(error);
    if error.is_connect() {
        return ActionError::Unreachable { target: http.url.clone(), detail };
    }
    ActionError::Unknown { detail: format!("{} {} has no answer: {detail}", http.method, http.url), said }
}

/// Receivers may say back what they were sent.
fn cleaned(said: Said, secret: Option<&str>) -> Said {
    let Some(secret) = secret.filter(|secret| !secret.is_empty()) else { return said };
    // And its parts: `Bearer TOKEN` may come back as the token.
    let parts = secret.split_whitespace().filter(|part| part.len() >= SHORTEST_TOKEN && *part != secret);
    parts.fold(said.without(secret.as_bytes()), |said, part| said.without(part.as_bytes()))
}

/// The whole chain: the first sentence alone says only that something failed. The address is told anyway.
fn causes(error: &reqwest::Error) -> String {
    let mut told = String::new();
    let mut next: Option<&dyn std::error::Error> = std::error::Error::source(error);
    while let Some(cause) = next {
        if !told.is_empty() {
            told.push_str(": ");
        }
        told.push_str(&cause.to_string());
        next = cause.source();
    }
    if told.is_empty() { error.to_string() } else { told }
}
