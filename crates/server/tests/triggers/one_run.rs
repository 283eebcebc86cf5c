//! However often and in whatever order two sources tell of an outage, to two servers of which one is killed: one failover.

use std::sync::{Arc, atomic::AtomicUsize};

use chrono::{DateTime, TimeDelta, Utc};
use rand::{SeedableRng, rngs::StdRng, seq::SliceRandom};
use recovery::{Fact, MainState, Operation, Step, fold};
use serde_json::{Value, json};
use store::{Limits, PgStore, look::RunFilter, testing::TestDatabase};
use switchback_server::{StateDir, WorkerOptions, work};
use tokio::sync::watch;

use super::{
    scene::{GRAFANA_TIME, Server, alert, group, wait_until},
    storm::{Delivery, send, send_all},
};

const DELIVERIES: usize = 1_000;
const POLICY: &str = "
version: 1
name: two-sources
item: db9
mode: armed
sources: [prometheus, grafana]
match: [alertname = Down]
require: 2
hold-down: 0s
flap: { changes: 100, within: 1h }
approval: { need: 0 }
failover: { fence-timeout: 1s }
";

/// A protected item with a point, as an installation would have it; no agent serves its sites.
async fn protected(database: &TestDatabase, now: DateTime<Utc>) {
    let registered = Fact::ItemRegistered {
        name: "db9".parse().unwrap(),
        primary: "a".parse().unwrap(),
        recovery: "b".parse().unwrap(),
        machine: "db9".to_owned(),
        policy: recovery::ReplicationPolicy::default(),
        checks: vec![],
        profile: recovery::Profile::Kvm,
    };
    let moved = |step| Fact::Moved { step };
    let operation = Operation::Protect;
    let record = fold(&[registered, moved(Step::Begin { operation }), moved(Step::Finish { operation })]).unwrap().unwrap();
    assert_eq!(record.state.main, MainState::Protected);
    database.put_item("db9", &serde_json::to_value(record).unwrap(), "b", now).await;
}

/// Six nodes that are down, told by both sources again and again, along with outages that are over.
fn said(now: DateTime<Utc>, chance: &mut StdRng) -> Vec<Delivery> {
    let mut different = Vec::new();
    for (source, version) in [("prometheus", "4"), ("grafana", "1")] {
        for node in 0..6 {
            let name = format!("{source}-n{node}");
            let (began, before) = (now - TimeDelta::seconds(90), now - TimeDelta::minutes(50));
            let over = alert(&name, before, "resolved");
            different.push(Delivery { source, body: group(version, &[alert(&name, before, "firing"), over.clone()]) });
            different.push(Delivery { source, body: group(version, &[alert(&name, began, "firing"), over]) });
        }
    }
    let mut all: Vec<Delivery> = (0..DELIVERIES).map(|place| different[place % different.len()].clone()).collect();
    all.shuffle(chance);
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_thousand_deliveries_of_one_outage_start_one_failover_although_a_server_is_killed() {
    let database = TestDatabase::migrated().await;
    let servers = Arc::new([Server::start(&database).await, Server::start(&database).await]);
    servers[0].create("prometheus", json!({"kind": "alertmanager", "credential": {"as": "bearer"}})).await;
    servers[1].create("grafana", json!({"kind": "grafana", "timestamp_header": GRAFANA_TIME})).await;
    let now = DateTime::from_timestamp(Utc::now().timestamp(), 0).unwrap();
    protected(&database, now).await;
    let applied: Value = servers[1].local().post("/v1/trigger-policies", &json!({ "text": POLICY })).await.unwrap();
    assert_eq!(applied["version"], 1);
    let (stop, stopped) = watch::channel(false);
    let dir = store::testing::short_dir("sb-one");
    let options = WorkerOptions {
        state_dir: StateDir::open(&dir).unwrap(),
        database_url: database.url.clone(),
        lease: std::time::Duration::from_secs(5),
        name: "worker-1".to_owned(),
    };
    let worker = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(work(options, stopped)).unwrap();
    });

    send_all(&servers, said(now, &mut StdRng::seed_from_u64(4))).await;
    let store = PgStore::open(&database.url, Limits::default()).await.unwrap();
    let of = async |workflow: &str| {
        let runs = store.runs(&RunFilter { limit: 1_000, ..RunFilter::default() }).await.unwrap();
        runs.into_iter().filter(|run| run.workflow == workflow).collect::<Vec<_>>()
    };
    wait_until("a failover was started and has ended", async || {
        let failovers = of("failover").await;
        (!failovers.is_empty() && failovers.iter().all(|run| run.closed_at.is_some())).then_some(())
    })
    .await;
    // Everything is said once more, and looked at.
    for source in ["prometheus", "grafana"] {
        let again = alert(&format!("{source}-n0"), now - TimeDelta::seconds(90), "firing");
        let version = if source == "grafana" { "1" } else { "4" };
        send(&servers, &Delivery { source, body: group(version, &[again]) }, 1, &AtomicUsize::new(0)).await;
    }
    wait_until("nothing is left to be looked at", async || store.woken_policies().await.unwrap().is_empty().then_some(())).await;
    let failovers = of("failover").await;
    assert_eq!(failovers.len(), 1, "{failovers:?}");
    assert_eq!(failovers[0].problem.as_ref().map(|problem| problem.code.as_str()), Some("source-not-fenced"), "no agent is here to fence anything");
    assert_eq!(failovers[0].requested_by, "trigger two-sources");
    stop.send_replace(true);
    worker.join().unwrap();
    assert!(std::fs::remove_dir_all(dir).is_ok());
}
