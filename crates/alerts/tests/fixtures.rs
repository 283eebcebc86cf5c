//! Deliveries as real senders make them: each is read, or refused for its reason. See `fixtures/README.md`.
#![expect(clippy::unwrap_used, reason = "a test fails where its sentence does not hold")]

use std::{collections::BTreeMap, path::PathBuf};

use chrono::{DateTime, Utc};
use proptest::prelude::*;
use serde_json::{Value, json};
use switchback_alerts::{Alert, Credential, Headers, Key, Secret, Settings, authenticate, decode};

struct Delivery {
    method: String,
    headers: Headers,
    body: Vec<u8>,
}

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

fn delivery(name: &str) -> Delivery {
    let text = std::fs::read_to_string(path(&format!("{name}.headers.txt"))).unwrap();
    let (line, rest) = text.split_once('\n').unwrap();
    let pairs = rest.lines().filter_map(|line| line.split_once(':')).map(|(name, value)| (name, value.trim().as_bytes()));
    let method = line.split(' ').next().unwrap().to_owned();
    Delivery { method, headers: pairs.collect(), body: std::fs::read(path(&format!("{name}.json"))).unwrap() }
}

fn manifest() -> (DateTime<Utc>, Vec<(String, String)>) {
    let manifest: Value = serde_json::from_slice(&std::fs::read(path("manifest.json")).unwrap()).unwrap();
    let text = |fixture: &Value, name: &str| fixture[name].as_str().unwrap().to_owned();
    let fixtures = manifest["fixtures"].as_array().unwrap().iter().map(|fixture| (text(fixture, "file"), text(fixture, "verdict"))).collect();
    (DateTime::from_timestamp(manifest["now"].as_i64().unwrap(), 0).unwrap(), fixtures)
}

fn signs(secrets: &[&str]) -> Vec<Key> {
    secrets.iter().map(|secret| Key::Signs(Secret::kept(secret.as_bytes()))).collect()
}

fn shows(secret: &str) -> Vec<Key> {
    vec![Key::Shown(Secret::kept(secret.as_bytes()).digest())]
}

fn settings(value: Value) -> Settings {
    let settings: Settings = serde_json::from_value(value).unwrap();
    settings.check().unwrap();
    settings
}

/// How a source would be configured for the sender of a fixture.
fn source(name: &str) -> (Settings, Vec<Key>) {
    match name.split('/').next().unwrap() {
        "grafana" => {
            let body_only = matches!(name, "grafana/firing-hmac" | "grafana/bad-no-signature");
            let timestamp_header = (!body_only).then(|| "X-Grafana-Alerting-Signature-Timestamp".to_owned());
            (Settings::Grafana { timestamp_header }, signs(&["test-grafana-secret-1", "test-grafana-secret-2"]))
        }
        "pagerduty" => (Settings::PagerDuty { max_age_s: Settings::PAGERDUTY_AGE_S }, signs(&["test-pd-secret-old", "test-pd-secret-new"])),
        "cloudevents" => {
            let mapping = json!({
                "fingerprint": ["/source", "/subject"],
                "status": "/type",
                "firing": ["com.example.dr.alert.firing"],
                "resolved": ["com.example.dr.alert.resolved"],
                "began": {"by": "message_time", "at": "/time"},
                "labels": {"node": "/data/node", "severity": "/data/severity", "plan": "/drplan"},
                "summary": "/subject",
            });
            (settings(json!({"kind": "cloud-events", "credential": {"as": "bearer"}, "mapping": mapping})), vec![])
        }
        "datadog" => {
            let mapping = json!({
                "fingerprint": ["/cycle"],
                "status": "/transition",
                "firing": ["Triggered", "Re-Triggered", "Renotify", "No Data"],
                "resolved": ["Recovered"],
                "ignored": ["Warn"],
                "began": {"by": "fingerprint"},
                "labels": {"monitor": "/monitor_id", "scope": "/scope"},
                "summary": "/title",
            });
            let credential = json!({"as": "header", "header": "X-DR-Token"});
            (settings(json!({"kind": "generic", "credential": credential, "mapping": mapping})), shows("test-datadog-token"))
        }
        "azure" => {
            let mapping = json!({
                "fingerprint": ["/data/essentials/originAlertId"],
                "status": "/data/essentials/monitorCondition",
                "firing": ["Fired"],
                "resolved": ["Resolved"],
                "began": {"by": "start", "at": "/data/essentials/firedDateTime"},
                "labels": {"rule": "/data/essentials/alertRule", "severity": "/data/essentials/severity"},
                "summary": "/data/essentials/description",
            });
            (settings(json!({"kind": "generic", "credential": {"as": "bearer"}, "mapping": mapping})), vec![])
        }
        "alertmanager" => match name {
            "alertmanager/auth-basic" => {
                (Settings::Alertmanager { credential: Credential::Basic { user: "alertmanager".to_owned() } }, shows("example-secret-1"))
            }
            "alertmanager/auth-custom-scheme" => {
                (Settings::Alertmanager { credential: Credential::Scheme { scheme: "DR-Token".to_owned() } }, shows("example-token"))
            }
            _ => (Settings::Alertmanager { credential: Credential::Bearer }, shows("example-secret-1")),
        },
        other => panic!("no source for {other}"),
    }
}

/// What becomes of a delivery, in a line. Where the sender was captured without a credential, only the reading is judged.
fn judged(name: &str, now: DateTime<Utc>) -> String {
    let Delivery { headers, body, .. } = delivery(name);
    let (settings, keys) = source(name);
    let has_credential = !["cloudevents/", "azure/"].iter().any(|vendor| name.starts_with(vendor));
    if has_credential && let Err(error) = authenticate(&settings, &keys, &headers, &body, now) {
        return format!("{}: {error}", error.reason());
    }
    match decode(&settings, &headers, &body) {
        Ok(alerts) => alerts.iter().map(|alert| serde_json::to_string(alert).unwrap()).collect::<Vec<_>>().join("\n    "),
        Err(error) => format!("{}: {error}", error.reason()),
    }
}

fn captured() -> Vec<String> {
    let files = std::fs::read_dir(path("alertmanager")).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = files.filter_map(|file| Some(format!("alertmanager/{}", file.strip_suffix(".json")?))).collect();
    names.sort();
    names
}

fn read_captured(name: &str) -> Vec<Alert> {
    let Delivery { headers, body, .. } = delivery(name);
    decode(&Settings::Alertmanager { credential: Credential::Bearer }, &headers, &body).unwrap()
}

#[test]
fn every_made_delivery_is_read_or_refused_as_its_manifest_says() {
    let (now, fixtures) = manifest();
    let mut lines = Vec::new();
    for (name, verdict) in fixtures {
        let outcome = judged(&name, now);
        let read = outcome.is_empty() || outcome.starts_with('{');
        assert_eq!(read, matches!(verdict.as_str(), "valid" | "unsigned"), "{name}: {outcome}");
        lines.push(format!("{name} ({verdict})\n    {outcome}"));
    }
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn every_captured_delivery_of_alertmanager_is_read() {
    let mut lines = Vec::new();
    for name in captured().into_iter().filter(|name| delivery(name).method == "POST") {
        let alerts: Vec<String> = read_captured(&name).iter().map(|alert| serde_json::to_string(alert).unwrap()).collect();
        lines.push(format!("{name}\n    {}", alerts.join("\n    ")));
    }
    assert_eq!(lines.len(), captured().len() - 1, "all but what a redirection left over");
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn basic_bearer_and_a_scheme_of_ones_own_are_believed_and_nothing_else() {
    let now = DateTime::UNIX_EPOCH;
    let names = ["alertmanager/auth-basic", "alertmanager/auth-bearer", "alertmanager/auth-custom-scheme"];
    for name in names {
        let Delivery { headers, body, .. } = delivery(name);
        let (settings, keys) = source(name);
        assert_eq!(authenticate(&settings, &keys, &headers, &body, now), Ok(()), "{name}");
        assert_eq!(authenticate(&settings, &shows("another-secret-1"), &headers, &body, now).unwrap_err().reason(), "credential-wrong");
        assert_eq!(authenticate(&settings, &keys, &Headers::default(), &body, now).unwrap_err().reason(), "credential-missing");
        for other in names.into_iter().filter(|other| *other != name) {
            let refused = authenticate(&settings, &keys, &delivery(other).headers, &body, now).unwrap_err();
            assert_eq!(refused.reason(), "credential-malformed", "{other} shown to {name}");
        }
    }
}

#[test]
fn a_retry_a_repeat_and_a_second_sender_say_the_same() {
    let pairs = [
        ("repeat-first", "repeat-again"),
        ("retry-1-answered-503", "retry-4-answered-200"),
        ("timeout-first", "timeout-again"),
        ("answer-lost-1", "answer-lost-2"),
        ("two-senders-a", "two-senders-b"),
        ("mesh-slow-duplicate-a", "mesh-slow-duplicate-b"),
    ];
    for (first, second) in pairs {
        assert_eq!(read_captured(&format!("alertmanager/{first}")), read_captured(&format!("alertmanager/{second}")), "{first}");
    }
}

#[test]
fn a_group_that_says_resolved_while_others_fire_ends_only_what_it_names() {
    let alerts = read_captured("alertmanager/truncated-says-resolved-while-2-fire");
    let seen: Vec<(&str, bool)> = alerts.iter().map(|alert| (alert.fingerprint.as_str(), alert.truncated)).collect();
    assert_eq!(seen, [("d63046dbfd96883f", true)]);
}

#[test]
fn a_refire_is_another_incident_than_the_old_one_that_it_carries_along() {
    let (refired, resolved) = (read_captured("alertmanager/refired-with-old-resolved"), read_captured("alertmanager/resolved"));
    let of = |alerts: &[Alert]| -> BTreeMap<String, String> {
        alerts.iter().map(|alert| (alert.fingerprint.clone(), format!("{:?}", alert.said))).collect()
    };
    let (refired, resolved) = (of(&refired), of(&resolved));
    assert_ne!(refired["d63046dbfd96883f"], resolved["d63046dbfd96883f"]);
    assert_eq!(refired["4a666ff8d0308237"], resolved["4a666ff8d0308237"]);
}

#[test]
fn what_a_redirection_leaves_is_no_delivery() {
    let Delivery { method, body, headers } = delivery("alertmanager/redirect-302-became-get");
    assert_eq!((method.as_str(), body.len()), ("GET", 0));
    let read = decode(&Settings::Alertmanager { credential: Credential::Bearer }, &headers, &body);
    assert_eq!(read.unwrap_err().reason(), "unreadable");
}

#[test]
fn either_secret_is_enough_while_they_are_changed() {
    let (now, _) = manifest();
    let settings = Settings::PagerDuty { max_age_s: Settings::PAGERDUTY_AGE_S };
    let believed = |name: &str, secrets: &[&str]| {
        let Delivery { headers, body, .. } = delivery(name);
        authenticate(&settings, &signs(secrets), &headers, &body, now).is_ok()
    };
    assert!(believed("pagerduty/rotation-two-signatures", &["test-pd-secret-old"]));
    assert!(believed("pagerduty/rotation-two-signatures", &["test-pd-secret-new"]));
    assert!(believed("pagerduty/rotation-new-only", &["test-pd-secret-old", "test-pd-secret-new"]));
    assert!(!believed("pagerduty/rotation-new-only", &["test-pd-secret-old"]), "after the change the old one is worth nothing");
    assert!(!believed("pagerduty/triggered", &[]), "a source without a secret believes nobody");
}

#[test]
fn an_incident_that_is_opened_again_is_another_one() {
    let text = String::from_utf8(delivery("pagerduty/triggered").body).unwrap();
    let settings = Settings::PagerDuty { max_age_s: Settings::PAGERDUTY_AGE_S };
    let said = |text: &str| decode(&settings, &Headers::default(), text.as_bytes()).unwrap().remove(0);
    let (first, again) = (said(&text), said(&text.replace("incident.triggered", "incident.reopened")));
    assert_eq!(first.fingerprint, again.fingerprint);
    assert_ne!(first.said, again.said);
    let note = text.replace("incident.triggered", "incident.annotated");
    assert_eq!(decode(&settings, &Headers::default(), note.as_bytes()), Ok(vec![]), "a note says nothing of the incident");
}

fn all_names() -> Vec<String> {
    let (_, fixtures) = manifest();
    fixtures.into_iter().map(|(name, _)| name).chain(captured()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2_000) })]

    #[test]
    fn whatever_is_sent_is_read_or_refused_within_the_limits(
        name in prop::sample::select(all_names()),
        place: prop::sample::Index,
        put in prop::collection::vec(any::<u8>(), 0..4),
        gone in 0..40_usize,
    ) {
        let Delivery { headers, mut body, .. } = delivery(&name);
        let from = place.index(body.len() + 1);
        let to = (from + gone).min(body.len());
        body.splice(from..to, put);
        let (settings, keys) = source(&name);
        drop(authenticate(&settings, &keys, &headers, &body, DateTime::UNIX_EPOCH));
        for alert in decode(&settings, &headers, &body).unwrap_or_default() {
            prop_assert!((1..=512).contains(&alert.fingerprint.len()) && alert.summary.len() <= 1_024);
            prop_assert!(!serde_json::to_string(&alert).unwrap().contains("\\u0000"), "Postgres keeps no U+0000");
        }
    }
}
