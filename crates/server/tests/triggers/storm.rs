//! A thousand deliveries, in any order and more than once, from two sources to two servers, one of which is killed on the way.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use alerts::{Headers, Incidents, Settings, Standing, decode};
use chrono::{DateTime, TimeDelta, Utc};
use rand::{RngExt, SeedableRng, rngs::StdRng, seq::SliceRandom};
use serde_json::json;
use store::{Limits, PgStore, testing::TestDatabase};

use super::scene::{GRAFANA_TIME, SECRET, Server, alert, bearer, grafana, group};

const DELIVERIES: usize = 1_000;
const SENDERS: usize = 8;
const SEED: u64 = 20_261_123;

#[derive(Clone)]
pub(crate) struct Delivery {
    pub(crate) source: &'static str,
    pub(crate) body: Vec<u8>,
}

/// What two senders say in the course of some outages: each node fails, is repeated, recovers, fails again; groups carry what is
/// over along with what begins.
fn said(now: DateTime<Utc>, chance: &mut StdRng) -> Vec<Delivery> {
    let mut different = Vec::new();
    for (source, version) in [("prometheus", "4"), ("grafana", "1")] {
        for node in 0..12 {
            let name = format!("{source}-n{node}");
            let began = |round: i64| now - TimeDelta::minutes(100 - round);
            let rounds = chance.random_range(1..5);
            for round in 0..rounds {
                let firing = alert(&name, began(round), "firing");
                let mut then = vec![group(version, std::slice::from_ref(&firing))];
                if round > 0 {
                    then.push(group(version, &[firing.clone(), alert(&name, began(round - 1), "resolved")]));
                }
                if round + 1 < rounds || chance.random_bool(0.5) {
                    then.push(group(version, &[alert(&name, began(round), "resolved")]));
                }
                different.extend(then.into_iter().map(|body| Delivery { source, body }));
            }
        }
    }
    let mut all: Vec<Delivery> = Vec::new();
    while all.len() < DELIVERIES {
        let repeated = &different[all.len() % different.len()];
        all.push(Delivery { source: repeated.source, body: repeated.body.clone() });
    }
    all.shuffle(chance);
    all
}

/// What it must come to, by the fold in memory.
fn expected(deliveries: &[Delivery]) -> BTreeMap<(String, String, DateTime<Utc>), String> {
    let mut folds: BTreeMap<&str, Incidents> = BTreeMap::new();
    for Delivery { source, body } in deliveries {
        let settings = match *source {
            "grafana" => json!({"kind": "grafana", "timestamp_header": null}),
            _ => json!({"kind": "alertmanager", "credential": {"as": "bearer"}}),
        };
        let settings: Settings = serde_json::from_value(settings).unwrap();
        for alert in decode(&settings, &Headers::default(), body).unwrap() {
            folds.entry(source).or_default().take(&alert);
        }
    }
    let mut expected = BTreeMap::new();
    for (source, incidents) in folds {
        for ((fingerprint, starts_at), standing) in incidents.standings() {
            let status = if standing == Standing::Firing { "firing" } else { "resolved" };
            expected.insert((source.to_owned(), fingerprint.clone(), starts_at.unwrap()), status.to_owned());
        }
    }
    expected
}

/// Sends as Alertmanager does: whatever is not answered with 2xx is sent again, here to the other server.
pub(crate) async fn send(servers: &[Server; 2], delivery: &Delivery, first: usize, lost: &AtomicUsize) {
    for try_number in 0..50 {
        let headers = match delivery.source {
            "grafana" => grafana(&delivery.body, Utc::now()),
            _ => vec![bearer(SECRET)],
        };
        let server = &servers[(first + try_number) % 2];
        match server.post(delivery.source, &headers, delivery.body.clone()).await {
            Ok(answer) if answer.status().as_u16() == 202 => return,
            Ok(answer) => assert_eq!(answer.status().as_u16(), 503, "{:?}", answer.text().await),
            Err(_) => drop(lost.fetch_add(1, Ordering::Relaxed)),
        }
    }
    panic!("a delivery was taken by neither server");
}

/// Eight senders at once; the first server is killed on the way, while it is in use.
pub(crate) async fn send_all(servers: &Arc<[Server; 2]>, deliveries: Vec<Delivery>) {
    let killed_after = deliveries.len() * 2 / 5;
    let queue = Arc::new(Mutex::new(deliveries));
    let (sent, lost) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let mut senders = tokio::task::JoinSet::new();
    for first in 0..SENDERS {
        let (servers, queue, sent, lost) = (servers.clone(), queue.clone(), sent.clone(), lost.clone());
        senders.spawn(async move {
            loop {
                let Some(delivery) = queue.lock().unwrap().pop() else { return };
                send(&servers, &delivery, first, &lost).await;
                if sent.fetch_add(1, Ordering::Relaxed) == killed_after {
                    servers[0].kill();
                }
            }
        });
    }
    while let Some(sender) = senders.join_next().await {
        sender.unwrap();
    }
    assert!(lost.load(Ordering::Relaxed) > 0, "the server was killed while it was in use");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_thousand_deliveries_come_to_what_they_say_although_a_server_is_killed() {
    let database = TestDatabase::migrated().await;
    let servers = Arc::new([Server::start(&database).await, Server::start(&database).await]);
    servers[0].create("prometheus", json!({"kind": "alertmanager", "credential": {"as": "bearer"}})).await;
    servers[1].create("grafana", json!({"kind": "grafana", "timestamp_header": GRAFANA_TIME})).await;
    let store = PgStore::open(&database.url, Limits::default()).await.unwrap();
    store.set_trigger_listeners("plan", &["prometheus", "grafana"]).await.unwrap();

    let now = DateTime::from_timestamp(Utc::now().timestamp(), 0).unwrap();
    let deliveries = said(now, &mut StdRng::seed_from_u64(SEED));
    let expected = expected(&deliveries);
    send_all(&servers, deliveries).await;

    let rows = store.trigger_alerts(None, false, 1_000).await.unwrap();
    let found: BTreeMap<_, _> = rows.iter().map(|row| ((row.source.clone(), row.fingerprint.clone(), row.starts_at.unwrap()), row.status.clone())).collect();
    assert_eq!(rows.len(), found.len(), "no incident is there twice");
    assert_eq!(found, expected);

    let wakes = store.trigger_wakes("plan", 1_000).await.unwrap();
    let mut once = BTreeSet::new();
    for wake in &wakes {
        assert!(once.insert((wake.alert, wake.what.as_str())), "{wake:?} is there twice");
    }
    let of_ends = |what: &str| wakes.iter().filter(|wake| wake.what == what).count();
    let ended = expected.values().filter(|status| *status == "resolved").count();
    assert_eq!((of_ends("resolved"), of_ends("refreshed")), (ended, 0), "nobody took a wake away, so no repeat needed one");
    let woken: BTreeSet<i64> = wakes.iter().filter_map(|wake| wake.alert).collect();
    assert_eq!(woken.len(), expected.len(), "each incident woke the policy");

    let kept = store.trigger_deliveries(None, 5_000).await.unwrap();
    assert!(kept.len() >= DELIVERIES && kept.iter().all(|delivery| delivery.verdict == "accepted"), "{} deliveries", kept.len());
}
