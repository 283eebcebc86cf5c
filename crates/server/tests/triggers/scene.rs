//! Servers on one database, sources of alerts, and senders that sign like the real ones.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use api::{
    Client,
    triggers::{CreateSource, DeliveryView, SecretText, SourceKeyed},
};
use chrono::{DateTime, Utc};
use hmac::{Hmac, KeyInit, Mac};
use reqwest::{Response, StatusCode};
use serde_json::{Value, json};
use sha2::Sha256;
use store::{
    Limits, PgStore,
    testing::{TestDatabase, short_dir},
};
use switchback_server::{ServerOptions, StateDir, serve};
use tokio::{sync::watch, task::JoinHandle};

pub(crate) use super::waiting::wait_until;

pub(crate) const SECRET: &str = "a-secret-for-these-tests";
pub(crate) const GRAFANA_SIGNATURE: &str = "X-Grafana-Alerting-Signature";
pub(crate) const GRAFANA_TIME: &str = "X-Signed-At";
pub(crate) const PAGERDUTY_SIGNATURE: &str = "X-PagerDuty-Signature";

/// A server, and how it is reached.
pub(crate) struct Server {
    dir: PathBuf,
    listen: SocketAddr,
    stop: watch::Sender<bool>,
    serving: JoinHandle<()>,
    http: reqwest::Client,
}

impl Server {
    pub(crate) async fn start(database: &TestDatabase) -> Self {
        let dir = short_dir("sb-alerts");
        let listen = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let (stop, stopped) = watch::channel(false);
        let state_dir = StateDir::open(&dir).unwrap();
        let options = ServerOptions { state_dir, database_url: database.url.clone(), listen: Some(listen), tls_names: vec![] };
        let serving = tokio::spawn(async move { serve(options, stopped).await.unwrap() });
        let http = over_socket(dir.join("api.sock"));
        let server = Self { dir, listen, stop, serving, http };
        wait_until("the server answers", async || {
            assert!(!server.serving.is_finished(), "the server has ended");
            server.local().get::<Value>("/v1/version").await.ok()
        })
        .await;
        server
    }

    pub(crate) fn local(&self) -> Client {
        Client::unix(self.dir.join("api.sock")).unwrap()
    }

    /// Posts a delivery over the socket, with no token of ours.
    pub(crate) async fn post(&self, source: &str, headers: &[(&str, String)], body: impl Into<reqwest::Body>) -> reqwest::Result<Response> {
        with_headers(self.http.post(format!("http://localhost/v1/triggers/{source}")), headers).body(body).send().await
    }

    /// The same over the network, knowing the server by its CA.
    pub(crate) async fn post_over_tls(&self, source: &str, headers: &[(&str, String)], body: impl Into<reqwest::Body>) -> reqwest::Result<Response> {
        let ca = std::fs::read(self.dir.join("pki/ca.crt")).unwrap();
        let mut roots = rustls::RootCertStore::empty();
        roots.add(rustls_pemfile::certs(&mut ca.as_slice()).next().unwrap().unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let config = config.with_root_certificates(roots).with_no_client_auth();
        let http = reqwest::Client::builder().no_proxy().tls_backend_preconfigured(config).build().unwrap();
        with_headers(http.post(format!("https://{}/v1/triggers/{source}", self.listen)), headers).body(body).send().await
    }

    pub(crate) async fn ask(&self, method: reqwest::Method, source: &str, headers: &[(&str, String)]) -> Response {
        with_headers(self.http.request(method, format!("http://localhost/v1/triggers/{source}")), headers).send().await.unwrap()
    }

    /// Ends it in the midst of whatever it does: connections break, answers are lost.
    pub(crate) fn kill(&self) {
        self.serving.abort();
    }

    pub(crate) async fn create(&self, name: &str, settings: Value) -> SourceKeyed {
        let settings = serde_json::from_value(settings).unwrap();
        let asked = CreateSource { name: name.parse().unwrap(), settings, secret: Some(SecretText(SECRET.to_owned())) };
        self.local().post("/v1/trigger-sources", &asked).await.unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        drop(std::fs::remove_dir_all(&self.dir));
    }
}

fn over_socket(path: PathBuf) -> reqwest::Client {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth();
    let builder = reqwest::Client::builder().no_proxy().unix_socket(path).tls_backend_preconfigured(config);
    builder.redirect(reqwest::redirect::Policy::none()).timeout(Duration::from_secs(30)).build().unwrap()
}

fn with_headers(request: reqwest::RequestBuilder, headers: &[(&str, String)]) -> reqwest::RequestBuilder {
    headers.iter().fold(request, |request, (name, value)| request.header(*name, value))
}

/// One server with a source of each kind, and a policy that listens to all of them.
pub(crate) struct Scene {
    pub(crate) server: Server,
    pub(crate) database: TestDatabase,
    pub(crate) store: PgStore,
}

impl Scene {
    pub(crate) async fn new() -> Self {
        let database = TestDatabase::migrated().await;
        let server = Server::start(&database).await;
        let bearer = json!({"as": "bearer"});
        let mapping = json!({
            "fingerprint": ["/id"], "status": "/type", "firing": ["down"], "resolved": ["up"],
            "began": {"by": "message_time", "at": "/time"},
        });
        server.create("prometheus", json!({"kind": "alertmanager", "credential": bearer})).await;
        server.create("grafana", json!({"kind": "grafana", "timestamp_header": GRAFANA_TIME})).await;
        server.create("pager", json!({"kind": "pagerduty", "max_age_s": 1800})).await;
        server.create("events", json!({"kind": "cloud-events", "credential": bearer, "mapping": mapping})).await;
        server.create("own", json!({"kind": "generic", "credential": {"as": "header", "header": "X-Token"}, "mapping": mapping})).await;
        let store = PgStore::open(&database.url, Limits::default()).await.unwrap();
        store.set_trigger_listeners("plan", &["prometheus", "grafana", "pager", "events", "own"]).await.unwrap();
        Self { server, database, store }
    }

    pub(crate) async fn now(&self) -> DateTime<Utc> {
        self.store.judging("pager").await.unwrap().unwrap().now
    }

    /// The newest deliveries to a source.
    pub(crate) async fn deliveries(&self, source: &str) -> Vec<DeliveryView> {
        let listed: api::items::Listed<DeliveryView> =
            self.server.local().get(&format!("/v1/trigger-deliveries?source={source}&limit=1000")).await.unwrap();
        listed.items
    }
}

pub(crate) fn bearer(secret: &str) -> (&'static str, String) {
    ("Authorization", format!("Bearer {secret}"))
}

pub(crate) fn signature(secret: &str, parts: &[&[u8]]) -> String {
    let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(secret.as_bytes()).unwrap();
    parts.iter().for_each(|part| mac.update(part));
    hex::encode(mac.finalize().into_bytes())
}

/// Grafana's headers for a body that is signed at that time.
pub(crate) fn grafana(body: &[u8], at: DateTime<Utc>) -> Vec<(&'static str, String)> {
    let time = at.timestamp().to_string();
    vec![(GRAFANA_SIGNATURE, signature(SECRET, &[time.as_bytes(), b":", body])), (GRAFANA_TIME, time)]
}

pub(crate) fn pagerduty(body: &[u8]) -> Vec<(&'static str, String)> {
    vec![(PAGERDUTY_SIGNATURE, format!("v1={}", signature(SECRET, &[body])))]
}

/// A group of alerts as Alertmanager (version 4) and Grafana (version 1) write it.
pub(crate) fn group(version: &str, alerts: &[Value]) -> Vec<u8> {
    json!({"version": version, "status": "firing", "groupKey": "{}", "truncatedAlerts": 0, "alerts": alerts}).to_string().into_bytes()
}

pub(crate) fn alert(fingerprint: &str, starts_at: DateTime<Utc>, status: &str) -> Value {
    json!({
        "status": status, "fingerprint": fingerprint, "startsAt": starts_at.to_rfc3339(), "endsAt": "0001-01-01T00:00:00Z",
        "labels": {"alertname": "Down", "node": fingerprint}, "annotations": {"summary": format!("{fingerprint} does not answer")},
    })
}

pub(crate) fn incident(event: &str, status: &str, occurred_at: DateTime<Utc>) -> Vec<u8> {
    let incident = json!({"id": "Q1", "status": status, "created_at": "2026-11-22T21:59:00Z", "title": "orders-db does not answer"});
    json!({"event": {"event_type": event, "occurred_at": occurred_at.to_rfc3339(), "data": incident}}).to_string().into_bytes()
}

/// Status, problem code and detail of an answer.
pub(crate) async fn refused(answer: Response) -> (StatusCode, String, String) {
    let status = answer.status();
    let problem: api::Problem = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
    (status, problem.code().unwrap().as_str().to_owned(), problem.detail)
}
