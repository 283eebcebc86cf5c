//! Deliveries of alerts on Postgres: what they come to, whom they wake, what is kept of them.
#![expect(clippy::unwrap_used, reason = "a test fails where its sentence does not hold")]

use std::{collections::BTreeMap, time::Duration};

use alerts::{Alert, Incidents, Key, Kind, Said, Secret, Standing};
use chrono::{DateTime, Utc};
use serde_json::json;
use switchback_store::{
    PgStore,
    testing::PgLab,
    trigger_sources::NewSource,
    triggers::{MOST_REFUSED, NewDelivery, Taken, Verdict},
};

const HOUR: Duration = Duration::from_secs(3600);

fn key(secret: &str) -> Key {
    Key::Signs(Secret::chosen(secret).unwrap())
}

async fn source(store: &PgStore, name: &str) {
    let settings = json!({"version": 1, "settings": {"kind": "pagerduty", "max_age_s": 1800}});
    let new = NewSource { name, kind: Kind::PagerDuty, settings: &settings, by: "ada", key: &key("the-first-secret-1") };
    assert!(store.add_trigger_source(&new).await.unwrap());
    assert!(!store.add_trigger_source(&new).await.unwrap(), "the name is taken");
}

async fn deliver(store: &PgStore, source: &str, verdict: Verdict<'_>) -> Option<Taken> {
    let headers = BTreeMap::from([("user-agent".to_owned(), "test".to_owned())]);
    let body = Some(([7; 32], 4));
    store.take_delivery(&NewDelivery { source, remote: "192.0.2.7", headers: &headers, body, kept_body: Some(b"{..}"), verdict }).await.unwrap()
}

async fn say(store: &PgStore, source: &str, alerts: &[Alert]) -> Taken {
    deliver(store, source, Verdict::Accepted(alerts)).await.unwrap()
}

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(seconds, 0).unwrap()
}

fn alert(fingerprint: &str, said: Said) -> Alert {
    let labels = BTreeMap::from([("site".to_owned(), "berlin".to_owned())]);
    Alert { fingerprint: fingerprint.to_owned(), said, labels, summary: format!("{fingerprint} is down"), truncated: false }
}

fn firing(fingerprint: &str, starts_at: i64) -> Alert {
    alert(fingerprint, Said::Firing { starts_at: Some(at(starts_at)) })
}

fn resolved(fingerprint: &str, starts_at: i64) -> Alert {
    alert(fingerprint, Said::Resolved { starts_at: Some(at(starts_at)) })
}

/// Fingerprint, beginning, status of all incidents of a source, in order.
async fn standings(store: &PgStore, source: &str) -> Vec<(String, Option<DateTime<Utc>>, String)> {
    let rows = store.trigger_alerts(Some(source), false, 1_000).await.unwrap();
    let mut rows: Vec<_> = rows.into_iter().map(|row| (row.fingerprint, row.starts_at, row.status)).collect();
    rows.sort();
    rows
}

async fn wakes(store: &PgStore) -> Vec<(String, String)> {
    store.trigger_wakes("plan", 1_000).await.unwrap().into_iter().map(|wake| (wake.fingerprint.unwrap_or_default(), wake.what)).collect()
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(fingerprint, what)| ((*fingerprint).to_owned(), (*what).to_owned())).collect()
}

#[tokio::test]
async fn every_order_of_the_same_deliveries_comes_to_the_same() {
    let lab = PgLab::new().await;
    let until = |fingerprint, seconds| alert(fingerprint, Said::ResolvedUntil { until: at(seconds) });
    let own_id = |said: fn(Option<DateTime<Utc>>) -> Said| alert("own-id", said(None));
    let sayings = [
        firing("a", 1),
        resolved("a", 1),
        firing("a", 2),
        firing("b", 1),
        firing("b", 5),
        until("b", 3),
        until("b", 0),
        own_id(|starts_at| Said::Resolved { starts_at }),
        own_id(|starts_at| Said::Firing { starts_at }),
    ];
    let mut expected = None;
    for turn in 0..2 * sayings.len() {
        let name = format!("source-{turn}");
        source(&lab.store, &name).await;
        let mut order = sayings.clone();
        order.rotate_left(turn % sayings.len());
        if turn >= sayings.len() {
            order.reverse();
        }
        let mut model = Incidents::default();
        for saying in order.iter().chain(&sayings) {
            let taken = say(&lab.store, &name, std::slice::from_ref(saying)).await;
            assert_eq!(usize::try_from(taken.changed).unwrap(), model.take(saying).len(), "{saying:?} of {name}");
        }
        let of_model = model.standings().map(|((fingerprint, starts_at), standing)| {
            let status = if standing == Standing::Firing { "firing" } else { "resolved" };
            (fingerprint.clone(), *starts_at, status.to_owned())
        });
        let found = standings(&lab.store, &name).await;
        assert_eq!(found, of_model.collect::<Vec<_>>());
        assert_eq!(*expected.get_or_insert(found.clone()), found);
    }
}

#[tokio::test]
async fn a_listener_is_woken_once_for_each_change_and_once_for_all_repeats() {
    let lab = PgLab::new().await;
    source(&lab.store, "prometheus").await;
    say(&lab.store, "prometheus", &[firing("unheard", 1)]).await;
    let heard = lab.store.set_trigger_listeners("plan", &["prometheus", "nobody"]).await.unwrap();
    assert_eq!(heard, ["prometheus"], "a source that is not there can't be listened to");
    say(&lab.store, "prometheus", &[firing("a", 1), firing("b", 1)]).await;
    say(&lab.store, "prometheus", &[firing("a", 1)]).await;
    say(&lab.store, "prometheus", &[resolved("a", 1)]).await;
    say(&lab.store, "prometheus", &[resolved("a", 1)]).await;
    say(&lab.store, "prometheus", &[firing("unheard", 1)]).await;
    say(&lab.store, "prometheus", &[firing("unheard", 1)]).await;
    let expected = [("a", "firing"), ("b", "firing"), ("a", "resolved"), ("unheard", "refreshed")];
    assert_eq!(wakes(&lab.store).await, pairs(&expected));
    lab.store.set_trigger_listeners("plan", &[]).await.unwrap();
    assert_eq!(wakes(&lab.store).await, []);
}

#[tokio::test]
async fn a_repeat_waits_for_whoever_takes_the_last_note_away_and_notes_it_again() {
    let lab = PgLab::new().await;
    source(&lab.store, "prometheus").await;
    lab.store.set_trigger_listeners("plan", &["prometheus"]).await.unwrap();
    say(&lab.store, "prometheus", &[firing("a", 1)]).await;
    let mut sweeper = lab.database.client().await;
    let transaction = sweeper.transaction().await.unwrap();
    transaction.execute("delete from recovery.trigger_wakes", &[]).await.unwrap();
    let store = lab.store.clone();
    let repeat = tokio::spawn(async move { say(&store, "prometheus", &[firing("a", 1)]).await });
    let watcher = lab.database.client().await;
    wait_until_somebody_waits(&watcher).await;
    transaction.commit().await.unwrap();
    repeat.await.unwrap();
    assert_eq!(wakes(&lab.store).await, pairs(&[("a", "refreshed")]));
}

async fn wait_until_somebody_waits(watcher: &tokio_postgres::Client) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(3);
    let waiting = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
    while watcher.query_one(waiting, &[]).await.unwrap().get::<_, i64>(0) == 0 {
        assert!(tokio::time::Instant::now() < deadline, "nobody waits for a lock");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn an_alert_keeps_what_its_first_delivery_said_and_when_it_was_heard_of() {
    let lab = PgLab::new().await;
    source(&lab.store, "prometheus").await;
    let first = say(&lab.store, "prometheus", &[Alert { truncated: true, ..firing("a", 1) }]).await.delivery.unwrap();
    lab.database.advance(HOUR).await;
    let other = Alert { summary: "another text".to_owned(), labels: BTreeMap::new(), ..firing("a", 1) };
    let second = say(&lab.store, "prometheus", &[other]).await.delivery.unwrap();
    lab.database.advance(HOUR).await;
    let third = say(&lab.store, "prometheus", &[Alert { truncated: true, ..resolved("a", 1) }]).await.delivery.unwrap();
    let row = lab.store.trigger_alerts(None, false, 9).await.unwrap().remove(0);
    assert_eq!((row.summary.as_str(), row.labels["site"].as_str(), row.truncated), ("a is down", "berlin", false));
    assert_eq!((row.first_delivery, row.last_delivery, row.resolved_delivery), (first, third, Some(third)));
    assert!(second > first && row.resolved_at == Some(row.last_received_at));
    let lasted = row.last_received_at - row.first_received_at;
    assert_eq!(lasted.num_hours(), 2);
    assert_eq!(lab.store.trigger_alerts(None, true, 9).await.unwrap(), [], "it fires no more");
}

#[tokio::test]
async fn a_disabled_source_keeps_its_deliveries_and_counts_none() {
    let lab = PgLab::new().await;
    source(&lab.store, "prometheus").await;
    assert!(lab.store.enable_trigger_source("prometheus", false).await.unwrap());
    let ignored = say(&lab.store, "prometheus", &[firing("a", 1)]).await;
    assert_eq!((ignored.verdict.as_str(), ignored.changed), ("ignored", 0));
    assert_eq!(standings(&lab.store, "prometheus").await, []);
    let kept = lab.store.trigger_deliveries(Some("prometheus"), 9).await.unwrap().remove(0);
    assert_eq!((kept.verdict.as_str(), kept.reason.as_deref(), kept.alerts), ("ignored", Some("disabled"), 1));
    assert!(lab.store.enable_trigger_source("prometheus", true).await.unwrap());
    assert_eq!(say(&lab.store, "prometheus", &[firing("a", 1)]).await.changed, 1);
    assert_eq!(deliver(&lab.store, "nobody", Verdict::Accepted(&[])).await, None);
    assert_eq!(deliver(&lab.store, "nobody", Verdict::Refused { reason: "x", detail: "x" }).await, None);
}

#[tokio::test]
async fn refusals_of_a_minute_and_of_a_source_have_a_limit() {
    let lab = PgLab::new().await;
    source(&lab.store, "prometheus").await;
    let refuse = || deliver(&lab.store, "prometheus", Verdict::Refused { reason: "signature-wrong", detail: "it does not fit" });
    let kept = say(&lab.store, "prometheus", &[firing("a", 1)]).await.delivery.unwrap();
    let mut noted = 0;
    for _ in 0..610 {
        noted += i64::from(refuse().await.unwrap().delivery.is_some());
    }
    assert_eq!(noted, 600);
    lab.database.advance(Duration::from_secs(61)).await;
    for _ in 0..500 {
        assert!(refuse().await.unwrap().delivery.is_some(), "a minute later there is room again");
    }
    lab.store.prune_triggers().await.unwrap();
    let all = lab.store.trigger_deliveries(None, 5_000).await.unwrap();
    let refused = all.iter().filter(|delivery| delivery.verdict == "refused").count();
    assert_eq!((i64::try_from(refused).unwrap(), all.len() - refused), (MOST_REFUSED, 1));
    assert_eq!(lab.store.trigger_delivery_body(kept).await.unwrap().as_deref(), Some(&b"{..}"[..]));
}

#[tokio::test]
async fn what_nobody_has_heard_of_for_a_year_is_forgotten() {
    let lab = PgLab::new().await;
    source(&lab.store, "pager").await;
    say(&lab.store, "pager", &[firing("old", 1), alert("old", Said::ResolvedUntil { until: at(9) })]).await;
    lab.database.advance(HOUR * 24 * 399).await;
    say(&lab.store, "pager", &[firing("new", 1)]).await;
    lab.store.prune_triggers().await.unwrap();
    assert_eq!(standings(&lab.store, "pager").await.len(), 2);
    lab.database.advance(HOUR * 24 * 2).await;
    lab.store.prune_triggers().await.unwrap();
    assert_eq!(standings(&lab.store, "pager").await, [("new".to_owned(), Some(at(1)), "firing".to_owned())]);
    assert_eq!(say(&lab.store, "pager", &[firing("old", 1)]).await.changed, 1, "its end is forgotten with it");
    assert_eq!(standings(&lab.store, "pager").await[1].2, "firing");
}

#[tokio::test]
async fn a_source_has_two_secrets_at_most_and_the_newest_stays() {
    let lab = PgLab::new().await;
    source(&lab.store, "pager").await;
    let keys = async || lab.store.judging("pager").await.unwrap().unwrap().keys;
    assert!(!lab.store.drop_old_trigger_secret("pager").await.unwrap(), "the only one is not old");
    assert!(lab.store.add_trigger_secret("pager", &key("the-second-secret"), "ada").await.unwrap());
    assert!(!lab.store.add_trigger_secret("pager", &key("the-third-secret1"), "ada").await.unwrap());
    assert!(!lab.store.add_trigger_secret("nobody", &key("the-third-secret1"), "ada").await.unwrap());
    assert_eq!(keys().await, [key("the-first-secret-1"), key("the-second-secret")]);
    assert!(lab.store.drop_old_trigger_secret("pager").await.unwrap());
    assert_eq!(keys().await, [key("the-second-secret")]);
    let shown = Key::Shown(Secret::chosen("shown-with-each-1").unwrap().digest());
    assert!(lab.store.add_trigger_secret("pager", &shown, "ada").await.unwrap());
    assert_eq!(keys().await, [key("the-second-secret"), shown]);
    assert!(lab.store.judging("nobody").await.unwrap().is_none());
}

#[tokio::test]
async fn a_source_that_is_listened_to_is_not_removed() {
    let lab = PgLab::new().await;
    source(&lab.store, "pager").await;
    lab.store.set_trigger_listeners("plan", &["pager"]).await.unwrap();
    say(&lab.store, "pager", &[firing("a", 1)]).await;
    let row = lab.store.trigger_sources(Some("pager")).await.unwrap().remove(0);
    assert_eq!((row.listeners, row.deliveries, row.alerts, row.firing, row.secrets), (vec!["plan".to_owned()], 1, 1, 1, 1));
    assert!(!lab.store.remove_trigger_source("pager").await.unwrap());
    lab.store.set_trigger_listeners("plan", &[]).await.unwrap();
    assert!(lab.store.remove_trigger_source("pager").await.unwrap());
    assert_eq!(lab.store.trigger_sources(None).await.unwrap(), []);
    assert_eq!(lab.store.trigger_deliveries(None, 9).await.unwrap(), []);
    assert_eq!(lab.store.trigger_alerts(None, false, 9).await.unwrap(), []);
}

#[tokio::test]
async fn a_beginning_and_an_end_that_come_at_the_same_moment_end_resolved() {
    let lab = PgLab::new().await;
    source(&lab.store, "pager").await;
    for round in 0..60 {
        let name = format!("f{round}");
        let (begins, ends) = ([firing(&name, 1)], [alert(&name, Said::ResolvedUntil { until: at(2) })]);
        tokio::join!(say(&lab.store, "pager", &begins), say(&lab.store, "pager", &ends));
    }
    assert_eq!(lab.store.trigger_alerts(None, true, 99).await.unwrap(), [], "none goes on");
    assert_eq!(standings(&lab.store, "pager").await.len(), 60);
}

#[tokio::test]
async fn the_largest_delivery_is_taken_at_once() {
    let lab = PgLab::new().await;
    source(&lab.store, "prometheus").await;
    lab.store.set_trigger_listeners("plan", &["prometheus"]).await.unwrap();
    let most: Vec<Alert> = (0..alerts::MOST_ALERTS).map(|n| firing(&format!("f{n:04}"), 1)).collect();
    assert_eq!(say(&lab.store, "prometheus", &most).await.changed, 1_000);
    assert_eq!(say(&lab.store, "prometheus", &most).await.changed, 0);
    assert_eq!(wakes(&lab.store).await.len(), 1_000);
}
