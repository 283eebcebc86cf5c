//! CloudEvents 1.0 in their HTTP binding, brought to their JSON form, then read by the source's mapping.
//!
//! ```text
//!   application/cloudevents+json        ─▶ structured ─┐
//!   application/cloudevents-batch+json  ─▶ batch ──────┼─▶ {specversion, id, source, type, …, data} ─▶ mapping
//!   ce-specversion, ce-id, … headers    ─▶ binary ─────┘
//! ```

use std::collections::BTreeSet;

use base64::{Engine, prelude::BASE64_STANDARD};
use chrono::DateTime;
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value};

use super::{MOST_ALERTS, json};
use crate::{Alert, DecodeError, Headers, Limit, Mapping};

const STRUCTURED: &str = "application/cloudevents+json";
const BATCH: &str = "application/cloudevents-batch+json";
const VERSION: &str = "1.0";
const REQUIRED: [&str; 4] = ["specversion", "id", "source", "type"];

pub(super) fn read(mapping: &Mapping, headers: &Headers, body: &[u8]) -> Result<Vec<Alert>, DecodeError> {
    let media_type = media_type(headers);
    let events = match media_type.as_str() {
        STRUCTURED => vec![json::<Map<String, Value>>(body)?],
        BATCH => json::<Vec<Map<String, Value>>>(body)?,
        _ if !headers.text("ce-specversion").is_empty() || !headers.text("ce-id").is_empty() => vec![binary(&media_type, headers, body)?],
        _ => return Err(DecodeError::MediaType(media_type)),
    };
    if events.len() > MOST_ALERTS {
        return Err(DecodeError::TooMuch(Limit::Alerts, events.len()));
    }
    let mut seen = BTreeSet::new();
    let mut alerts = Vec::new();
    for event in events {
        let event = canonical(event)?;
        // The same source and id is the same event, by the specification.
        if seen.insert((event["source"].to_string(), event["id"].to_string())) {
            alerts.extend(mapping.read(&event)?);
        }
    }
    Ok(alerts)
}

fn media_type(headers: &Headers) -> String {
    headers.text("content-type").split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

fn refused<T>(why: impl Into<String>) -> Result<T, DecodeError> {
    Err(DecodeError::CloudEvent(why.into()))
}

/// Headers are attributes; the body is the data, read if it is JSON.
fn binary(media_type: &str, headers: &Headers, body: &[u8]) -> Result<Map<String, Value>, DecodeError> {
    let mut event = Map::new();
    for (name, value) in headers.iter() {
        let Some(attribute) = name.strip_prefix("ce-") else { continue };
        let Ok(text) = percent_decode_str(value).decode_utf8() else {
            return refused(format!("header {name} is not percent-encoded UTF-8"));
        };
        event.insert(attribute.to_owned(), Value::String(text.into_owned()));
    }
    if is_json(media_type) && !body.is_empty() {
        event.insert("data".to_owned(), json(body)?);
    }
    Ok(event)
}

/// The event by the rules of the specification, `data_base64` read if it is JSON.
fn canonical(mut event: Map<String, Value>) -> Result<Value, DecodeError> {
    for name in REQUIRED {
        if event.get(name).and_then(Value::as_str).is_none_or(str::is_empty) {
            return refused(format!("the required attribute `{name}` is missing"));
        }
    }
    if event["specversion"] != VERSION {
        return refused(format!("specversion is {}, understood is {VERSION}", event["specversion"]));
    }
    for (name, value) in event.iter().filter(|(name, _)| !matches!(name.as_str(), "data" | "data_base64")) {
        let plain = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
        if !plain {
            return refused(format!("attribute `{name}` has other characters than a-z and 0-9"));
        }
        if matches!(value, Value::Array(_) | Value::Object(_)) {
            return refused(format!("attribute `{name}` is no simple value"));
        }
    }
    if let Some(time) = event.get("time").filter(|time| !time.is_null())
        && time.as_str().is_none_or(|time| DateTime::parse_from_rfc3339(time).is_err())
    {
        return refused("`time` is no RFC 3339 time");
    }
    if let Some(encoded) = event.remove("data_base64").filter(|encoded| !encoded.is_null()) {
        if event.get("data").is_some_and(|plain| !plain.is_null()) {
            return refused("it has both `data` and `data_base64`");
        }
        let Some(bytes) = encoded.as_str().and_then(|text| BASE64_STANDARD.decode(text).ok()) else {
            return refused("`data_base64` is no base64");
        };
        let declared = event.get("datacontenttype").and_then(Value::as_str).unwrap_or("application/json");
        if is_json(declared.split(';').next().unwrap_or_default().trim()) {
            event.insert("data".to_owned(), json(&bytes)?);
        }
    }
    Ok(Value::Object(event))
}

/// JSON by its media type; no media type at all means JSON in the JSON form of an event.
fn is_json(media_type: &str) -> bool {
    let media_type = media_type.to_ascii_lowercase();
    media_type == "application/json" || media_type == "text/json" || media_type.ends_with("+json")
}
