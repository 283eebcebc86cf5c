//! Deliveries of alerts by the wire: what is believed, what is refused and noted, and what a thousand of them come to.
#![expect(clippy::unwrap_used, reason = "a test fails where its sentence does not hold")]

#[path = "triggers/scene.rs"]
mod scene;
#[path = "triggers/one_run.rs"]
mod one_run;
#[path = "triggers/storm.rs"]
mod storm;
mod waiting;

use api::{
    Client, ClientError, Code,
    access::{Role, TokenCreated, TokenRequest},
    items::Listed,
    triggers::{AlertView, CreateSource, DeliveryBody, DeliveryTaken, RemoveSource, RotateSecret, SecretText, SourceKeyed, SourceRemoved, SourceView},
};
use chrono::TimeDelta;
use reqwest::{Method, StatusCode};
use serde_json::json;

use scene::{
    GRAFANA_SIGNATURE, GRAFANA_TIME, PAGERDUTY_SIGNATURE, SECRET, Scene, alert, bearer, grafana, group, incident, pagerduty, refused, signature,
};

/// A delivery that must be refused: to whom, with what, and as what it is refused and noted.
struct Bad {
    source: &'static str,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
    status: u16,
    code: &'static str,
    reason: &'static str,
}

fn bad(source: &'static str, headers: Vec<(&'static str, String)>, body: &[u8], status: u16, code: &'static str, reason: &'static str) -> Bad {
    Bad { source, headers, body: body.to_owned(), status, code, reason }
}

async fn not_believed(scene: &Scene) -> Vec<Bad> {
    let now = scene.now().await;
    let body = &group("1", &[alert("n1", now, "firing")])[..];
    let other = &group("1", &[alert("n2", now, "firing")])[..];
    let (signed, old) = (grafana(body, now), grafana(body, now - TimeDelta::seconds(400)));
    let event = &incident("incident.triggered", "triggered", now)[..];
    let late = &incident("incident.triggered", "triggered", now - TimeDelta::hours(2))[..];
    let swapped = vec![old[0].clone(), (GRAFANA_TIME, now.timestamp().to_string())];
    let wrong = |parts: &[&[u8]]| signature("another-secret-than-ours", parts);
    let wrong_v1 = (PAGERDUTY_SIGNATURE, format!("v1={}", wrong(&[event])));
    let v2 = (PAGERDUTY_SIGNATURE, format!("v2={}", signature(SECRET, &[event])));
    let basic = ("Authorization", "Basic YTpi".to_owned());
    let code = "delivery-not-believed";
    vec![
        bad("grafana", vec![], body, 401, code, "credential-missing"),
        bad("grafana", vec![signed[1].clone()], body, 401, code, "credential-missing"),
        bad("grafana", vec![signed[0].clone()], body, 401, code, "credential-missing"),
        bad("grafana", vec![(GRAFANA_SIGNATURE, wrong(&[body])), signed[1].clone()], body, 401, code, "signature-wrong"),
        bad("grafana", vec![(GRAFANA_SIGNATURE, "zz".to_owned()), signed[1].clone()], body, 401, code, "credential-malformed"),
        bad("grafana", signed.clone(), other, 401, code, "signature-wrong"),
        bad("grafana", swapped, body, 401, code, "signature-wrong"),
        bad("grafana", old, body, 401, code, "stale"),
        bad("grafana", grafana(body, now + TimeDelta::seconds(400)), body, 401, code, "from-the-future"),
        bad("grafana", [signed.clone(), signed].concat(), body, 401, code, "credential-repeated"),
        bad("pager", vec![], event, 401, code, "credential-missing"),
        bad("pager", vec![wrong_v1], event, 401, code, "signature-wrong"),
        bad("pager", vec![v2], event, 401, code, "credential-malformed"),
        bad("pager", pagerduty(event), late, 401, code, "signature-wrong"),
        bad("pager", pagerduty(late), late, 401, code, "stale"),
        bad("prometheus", vec![], body, 401, code, "credential-missing"),
        bad("prometheus", vec![bearer("another-secret-than-ours")], body, 401, code, "credential-wrong"),
        bad("prometheus", vec![basic], body, 401, code, "credential-malformed"),
        bad("own", vec![bearer(SECRET)], body, 401, code, "credential-missing"),
    ]
}

async fn not_read(scene: &Scene) -> Vec<Bad> {
    let now = scene.now().await;
    let believed = || vec![bearer(SECRET)];
    let own = || vec![("X-Token", SECRET.to_owned())];
    let code = "delivery-unreadable";
    let many: Vec<_> = (0..1_001).map(|n| alert(&format!("n{n}"), now, "firing")).collect();
    let structured = || vec![bearer(SECRET), ("Content-Type", "application/cloudevents+json".to_owned())];
    let zero = group("4", &[alert("n1", now, "a \0 byte")]);
    let long = json!({"id": 1, "type": "w".repeat(100_000)}).to_string();
    let (few, large) = (group("1", &[alert("n1", now, "firing")]), vec![b' '; (1 << 20) + 1]);
    vec![
        bad("prometheus", believed(), b"", 400, code, "unreadable"),
        bad("prometheus", believed(), b"{\"version\":\"4\"", 400, code, "unreadable"),
        bad("prometheus", believed(), &few, 400, code, "other-version"),
        bad("prometheus", believed(), &group("4", &many), 400, code, "too-much"),
        bad("prometheus", believed(), &zero, 400, code, "unreadable"),
        bad("own", own(), long.as_bytes(), 400, code, "unknown-word"),
        bad("events", believed(), b"{}", 415, code, "other-media-type"),
        bad("events", structured(), b"{\"specversion\":\"1.0\"}", 400, code, "no-cloud-event"),
        bad("own", own(), b"{\"id\":1,\"type\":\"sideways\",\"time\":\"2026-11-22T22:00:00Z\"}", 400, code, "unknown-word"),
        bad("own", own(), b"{\"type\":\"down\"}", 400, code, "not-as-mapped"),
        bad("prometheus", believed(), &large, 413, "delivery-too-large", "too-large"),
        bad("prometheus", vec![], &large, 413, "delivery-too-large", "too-large"),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_believed_or_not_read_is_refused_and_noted_and_changes_nothing_else() {
    let scene = Scene::new().await;
    let all = not_believed(&scene).await.into_iter().chain(not_read(&scene).await);
    let mut noted = 0;
    for Bad { source, headers, body, status, code, reason } in all {
        for over_tls in [false, true] {
            let answer = if over_tls {
                scene.server.post_over_tls(source, &headers, body.clone()).await.unwrap()
            } else {
                scene.server.post(source, &headers, body.clone()).await.unwrap()
            };
            let (answered, problem, detail) = refused(answer).await;
            assert_eq!((answered.as_u16(), problem.as_str()), (status, code), "{source} {reason}: {detail}");
            let delivery = scene.deliveries(source).await.remove(0);
            let seen = (delivery.verdict.as_str(), delivery.reason.as_deref(), delivery.alerts);
            assert_eq!(seen, ("refused", Some(reason), 0), "{source}: {detail}");
            let measured = (status != 413).then(|| i64::try_from(body.len()).unwrap());
            assert_eq!((delivery.body_bytes, delivery.body_sha256.is_some()), (measured, measured.is_some()));
            assert_eq!(delivery.remote == "127.0.0.1", over_tls, "{}", delivery.remote);
            assert!(delivery.detail.is_some_and(|detail| detail.len() <= 2_000), "words about a refusal have a limit");
            assert!(!format!("{:?}", delivery.headers).contains(SECRET), "no credential is kept");
            noted += 1;
        }
    }
    let mut kept = 0;
    for source in ["prometheus", "grafana", "pager", "events", "own"] {
        kept += scene.deliveries(source).await.len();
    }
    assert_eq!(kept, noted, "each refusal is noted once");
    assert_eq!(scene.store.trigger_alerts(None, false, 9).await.unwrap(), []);
    assert_eq!(scene.store.trigger_wakes("plan", 9).await.unwrap(), []);
    let metrics = scene.server.local().text("/metrics").await.unwrap();
    assert!(metrics.contains("switchback_trigger_deliveries_total{source=\"grafana\",verdict=\"refused\",reason=\"stale\"} 2\n"), "{metrics}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delivery_of_each_kind_is_stored_and_answered_with_202() {
    let scene = Scene::new().await;
    let now = scene.now().await;
    let of_grafana = group("1", &[alert("g1", now, "firing")]);
    let of_pager = incident("incident.triggered", "triggered", now);
    let event = json!({"specversion": "1.0", "id": "e1", "source": "/m", "type": "down", "time": now.to_rfc3339()}).to_string().into_bytes();
    let own = json!({"id": "o1", "type": "down", "time": now.to_rfc3339()}).to_string().into_bytes();
    let batch = vec![bearer(SECRET), ("Content-Type", "application/cloudevents-batch+json".to_owned())];
    let good = [
        ("prometheus", vec![bearer(SECRET)], group("4", &[alert("a1", now, "firing"), alert("a2", now, "resolved")]), 2),
        ("grafana", grafana(&of_grafana, now), of_grafana, 1),
        ("pager", pagerduty(&of_pager), of_pager.clone(), 1),
        ("events", batch, [b"[", &event[..], b",", &event, b"]"].concat(), 1),
        ("own", vec![("X-Token", SECRET.to_owned())], own, 1),
    ];
    for (source, headers, body, alerts) in good {
        let answer = scene.server.post_over_tls(source, &headers, body.clone()).await.unwrap();
        assert_eq!(answer.status(), StatusCode::ACCEPTED, "{source}");
        let taken: DeliveryTaken = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
        assert_eq!((taken.verdict.as_str(), taken.alerts), ("accepted", alerts), "{source}");
        let kept: DeliveryBody = scene.server.local().get(&format!("/v1/trigger-deliveries/{}", taken.delivery)).await.unwrap();
        assert_eq!(kept.text.into_bytes(), body);
    }
    let ping = json!({"event": {"event_type": "pagey.ping", "occurred_at": now.to_rfc3339(), "data": {}}}).to_string().into_bytes();
    assert_eq!(scene.server.post("pager", &pagerduty(&ping), ping).await.unwrap().status(), StatusCode::ACCEPTED, "a test of the subscription");
    let alerts: Listed<AlertView> = scene.server.local().get("/v1/trigger-alerts?firing=true").await.unwrap();
    let mut firing: Vec<_> = alerts.items.iter().map(|alert| (alert.source.as_str(), alert.fingerprint.as_str())).collect();
    firing.sort_unstable();
    assert_eq!(firing, [("events", "e1"), ("grafana", "g1"), ("own", "o1"), ("pager", "Q1"), ("prometheus", "a1")]);
    let woken = scene.store.trigger_wakes("plan", 99).await.unwrap();
    assert_eq!(woken.len(), 6);
    let resolved = incident("incident.resolved", "resolved", now);
    scene.server.post("pager", &pagerduty(&resolved), resolved).await.unwrap();
    let over: Listed<AlertView> = scene.server.local().get("/v1/trigger-alerts?source=pager").await.unwrap();
    assert_eq!(over.items[0].status, "resolved");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_path_or_a_lost_alert_is_said_so() {
    let scene = Scene::new().await;
    for name in ["nobody", "NOT-A-NAME", "a%2fb"] {
        let answer = scene.server.post(name, &[bearer(SECRET)], "{}").await.unwrap();
        let (status, code, _) = refused(answer).await;
        assert_eq!((status.as_u16(), code.as_str()), (404, "unknown-source"), "{name}");
    }
    let redirected = scene.server.ask(Method::GET, "prometheus", &[bearer(SECRET)]).await;
    assert_eq!(redirected.headers()["allow"], "POST, OPTIONS");
    let (status, _, detail) = refused(redirected).await;
    assert!(status == StatusCode::METHOD_NOT_ALLOWED && detail.contains("follow_redirects: false"), "{detail}");
    assert_eq!(scene.deliveries("prometheus").await, []);

    let origin = [("WebHook-Request-Origin", "eventemitter.example.com".to_owned())];
    let shaken = scene.server.ask(Method::OPTIONS, "events", &origin).await;
    assert_eq!((shaken.status(), &shaken.headers()["webhook-allowed-origin"]), (StatusCode::OK, &"eventemitter.example.com".parse().unwrap()));
    assert_eq!(scene.server.ask(Method::OPTIONS, "events", &[]).await.status(), StatusCode::BAD_REQUEST);
    assert_eq!(scene.server.ask(Method::OPTIONS, "prometheus", &origin).await.status(), StatusCode::BAD_REQUEST);
    assert_eq!(scene.server.ask(Method::OPTIONS, "nobody", &origin).await.status(), StatusCode::NOT_FOUND);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_database_is_away_senders_are_told_to_come_again() {
    let scene = Scene::new().await;
    let body = group("4", &[alert("a1", scene.now().await, "firing")]);
    scene.database.lock_out(true).await;
    let (status, code, _) = refused(scene.server.post("prometheus", &[bearer(SECRET)], body.clone()).await.unwrap()).await;
    assert_eq!((status.as_u16(), code.as_str()), (503, "database-unavailable"));
    scene.database.lock_out(false).await;
    scene::wait_until("the delivery is taken", async || {
        let answer = scene.server.post("prometheus", &[bearer(SECRET)], body.clone()).await.unwrap();
        (answer.status() == StatusCode::ACCEPTED).then_some(())
    })
    .await;
    assert_eq!(scene.deliveries("prometheus").await.len(), 1, "nothing of the first try was kept");
}

fn code<T: std::fmt::Debug>(answer: Result<T, ClientError>) -> Code {
    let error = answer.unwrap_err();
    error.problem().unwrap_or_else(|| panic!("a problem is expected, not {error:?}")).code().unwrap()
}

async fn changed(client: &Client, source: &str, change: &str) -> SourceView {
    client.post(&format!("/v1/trigger-sources/{source}/{change}"), &json!({})).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disabled_source_answers_202_and_counts_nothing() {
    let scene = Scene::new().await;
    let local = scene.server.local();
    assert!(!changed(&local, "prometheus", "disable").await.enabled);
    let body = group("4", &[alert("a1", scene.now().await, "firing")]);
    let answer = scene.server.post("prometheus", &[bearer(SECRET)], body.clone()).await.unwrap();
    assert_eq!(answer.status(), StatusCode::ACCEPTED);
    let taken: DeliveryTaken = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
    assert_eq!(taken.verdict, "ignored");
    let stranger = scene.server.post("prometheus", &[], body.clone()).await.unwrap();
    assert_eq!(stranger.status(), StatusCode::UNAUTHORIZED, "that is no reason to believe anybody");
    assert_eq!(scene.store.trigger_alerts(None, false, 9).await.unwrap(), []);
    assert!(changed(&local, "prometheus", "enable").await.enabled);
    scene.server.post("prometheus", &[bearer(SECRET)], body).await.unwrap();
    assert_eq!(scene.store.trigger_alerts(None, true, 9).await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_is_changed_without_losing_a_delivery() {
    let scene = Scene::new().await;
    let local = scene.server.local();
    let now = scene.now().await;
    let body = group("4", &[alert("a1", now, "firing")]);
    let status = async |secret: &str| scene.server.post("prometheus", &[bearer(secret)], body.clone()).await.unwrap().status();
    let rotated: SourceKeyed = local.post("/v1/trigger-sources/prometheus/rotate", &RotateSecret::default()).await.unwrap();
    let SecretText(second) = rotated.secret.unwrap();
    assert_eq!(rotated.source.secrets, 2);
    assert_eq!((status(SECRET).await, status(&second).await), (StatusCode::ACCEPTED, StatusCode::ACCEPTED));
    assert_eq!(code(local.post::<SourceKeyed>("/v1/trigger-sources/prometheus/rotate", &RotateSecret::default()).await), Code::SourceConflict);
    assert_eq!(changed(&local, "prometheus", "drop-old-secret").await.secrets, 1);
    assert_eq!((status(SECRET).await, status(&second).await), (StatusCode::UNAUTHORIZED, StatusCode::ACCEPTED));
    assert_eq!(code(local.post::<SourceView>("/v1/trigger-sources/prometheus/drop-old-secret", &json!({})).await), Code::SourceConflict);

    let given = RotateSecret { secret: Some(SecretText("the-second-secret-of-pager".to_owned())) };
    let keyed: SourceKeyed = local.post("/v1/trigger-sources/pager/rotate", &given).await.unwrap();
    assert_eq!(keyed.secret, None, "what was given is not shown");
    let event = incident("incident.triggered", "triggered", now);
    let both = format!("v1={},v1={}", signature("neither-of-the-two-secrets", &[&event]), signature("the-second-secret-of-pager", &[&event]));
    let answer = scene.server.post("pager", &[(PAGERDUTY_SIGNATURE, both)], event).await.unwrap();
    assert_eq!(answer.status(), StatusCode::ACCEPTED);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sources_are_made_and_removed_by_admins_and_show_no_secret() {
    let scene = Scene::new().await;
    let local = scene.server.local();
    let asked = |secret: Option<&str>, settings: serde_json::Value| CreateSource {
        name: "another".parse().unwrap(),
        settings: serde_json::from_value(settings).unwrap(),
        secret: secret.map(|secret| SecretText(secret.to_owned())),
    };
    let grafana = || json!({"kind": "grafana", "timestamp_header": null});
    let refused = async |asked: CreateSource| code(local.post::<SourceKeyed>("/v1/trigger-sources", &asked).await);
    assert_eq!(refused(asked(Some("short"), grafana())).await, Code::InvalidRequest);
    assert_eq!(refused(asked(None, json!({"kind": "pagerduty", "max_age_s": 1800}))).await, Code::InvalidRequest, "PagerDuty makes its own");
    assert_eq!(refused(asked(None, json!({"kind": "grafana", "timestamp_header": "Content-Length"}))).await, Code::InvalidRequest);
    let made: SourceKeyed = local.post("/v1/trigger-sources", &asked(None, grafana())).await.unwrap();
    assert!(made.secret.unwrap().0.starts_with("sba_") && made.url.starts_with("https://127.0.0.1:") && made.url.ends_with("/v1/triggers/another"));
    assert_eq!(refused(asked(None, grafana())).await, Code::NameTaken);
    let listed = local.text("/v1/trigger-sources").await.unwrap();
    assert!(listed.contains("another") && !listed.contains(SECRET) && !listed.contains("sba_"), "{listed}");

    let token: TokenCreated = local.post("/v1/tokens", &TokenRequest { name: "bob".to_owned(), role: Role::Operator }).await.unwrap();
    let answer = scene.server.post_over_tls("../trigger-sources", &[bearer(&token.token)], serde_json::to_vec(&asked(None, grafana())).unwrap()).await;
    assert_eq!(answer.unwrap().status(), StatusCode::FORBIDDEN, "an operator lets nobody in");

    let remove = "/v1/trigger-sources/prometheus/remove";
    assert_eq!(code(local.post::<SourceRemoved>(remove, &RemoveSource::default()).await), Code::ConfirmationNeeded);
    let confirmed = RemoveSource { discard_deliveries: true };
    assert_eq!(code(local.post::<SourceRemoved>(remove, &confirmed).await), Code::SourceConflict, "a policy listens to it");
    let removed: SourceRemoved = local.post("/v1/trigger-sources/another/remove", &confirmed).await.unwrap();
    assert_eq!((removed.name.as_str(), removed.deliveries), ("another", 0));
    assert_eq!(code(local.post::<SourceRemoved>("/v1/trigger-sources/another/remove", &confirmed).await), Code::UnknownSource);
    assert_eq!(code(local.post::<SourceView>("/v1/trigger-sources/prometheus/dance", &json!({})).await), Code::UnknownPath);
}
