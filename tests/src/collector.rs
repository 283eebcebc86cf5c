//! A local OTLP receiver (HTTP, JSON) that remembers the spans it was sent.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
};

use serde_json::Value;

use crate::place::enter_network;

/// A span, as far as tests look at it.
#[derive(Clone, Debug)]
pub struct Span {
    /// `service.name` of the process.
    pub service: String,
    /// Trace id, hex.
    pub trace: String,
    /// Name of the span.
    pub name: String,
    /// Its attributes, JSON.
    pub attributes: String,
}

/// A running receiver; it ends with the test's process.
pub struct Collector {
    port: u16,
    spans: Arc<Mutex<Vec<Span>>>,
}

/// Listens on this host.
#[must_use]
pub fn start() -> Collector {
    listening(TcpListener::bind("127.0.0.1:0").unwrap_or_else(|error| panic!("no free port: {error}")))
}

/// Listens in another network namespace, for processes that live there.
#[must_use]
pub fn start_in(netns: &str) -> Collector {
    let name = netns.to_owned();
    let entering = std::thread::spawn(move || {
        enter_network(&name);
        TcpListener::bind("127.0.0.1:0").unwrap_or_else(|error| panic!("no free port: {error}"))
    });
    listening(entering.join().unwrap_or_else(|_panic| panic!("nobody listens in {netns}")))
}

fn listening(listener: TcpListener) -> Collector {
    let port = listener.local_addr().map_or(0, |address| address.port());
    let spans = Arc::new(Mutex::new(Vec::new()));
    let kept = spans.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let kept = kept.clone();
            std::thread::spawn(move || receive(&stream, &kept));
        }
    });
    Collector { port, spans }
}

impl Collector {
    /// What `OTEL_EXPORTER_OTLP_ENDPOINT` must be.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// All that arrived so far.
    #[must_use]
    pub fn spans(&self) -> Vec<Span> {
        self.spans.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }
}

fn receive(stream: &TcpStream, kept: &Mutex<Vec<Span>>) {
    let mut reader = BufReader::new(stream);
    loop {
        let mut length = 0;
        let mut line = String::new();
        loop {
            line.clear();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            let lower = line.to_ascii_lowercase();
            if let Some(value) = lower.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap_or(0);
            }
            if line == "\r\n" {
                break;
            }
        }
        let mut body = vec![0; length];
        if reader.read_exact(&mut body).is_err() {
            return;
        }
        if let Ok(request) = serde_json::from_slice::<Value>(&body) {
            kept.lock().unwrap_or_else(std::sync::PoisonError::into_inner).extend(spans(&request));
        }
        let mut answer = stream;
        if answer.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}").is_err() {
            return;
        }
    }
}

fn spans(request: &Value) -> Vec<Span> {
    let list = |value: &Value, key: &str| value[key].as_array().cloned().unwrap_or_default();
    let mut found = Vec::new();
    for resource in list(request, "resourceSpans") {
        let attributes = list(&resource["resource"], "attributes");
        let service = attributes.iter().find(|a| a["key"] == "service.name").and_then(|a| a["value"]["stringValue"].as_str()).unwrap_or("?").to_owned();
        for scope in list(&resource, "scopeSpans") {
            for span in list(&scope, "spans") {
                let text = |key: &str| span[key].as_str().unwrap_or_default().to_owned();
                let attributes = span["attributes"].to_string();
                found.push(Span { service: service.clone(), trace: text("traceId"), name: text("name"), attributes });
            }
        }
    }
    found
}
