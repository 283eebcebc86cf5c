//! Alerts about a real machine, by a real Prometheus and a real pair of Alertmanagers: a cut that heals, and a site that dies.
//! Needs root and QEMU; `SWITCHBACK_REQUIRE_KVM=1` makes their absence a failure.
#![allow(clippy::unwrap_used, reason = "a test panics where its sentence does not hold")]

use std::{
    fs,
    net::SocketAddr,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use switchback_tests::{
    drive::{agents, next_whole_point, protect},
    lab::{Lab, kvm_or_skip},
    monitoring::{Hook, Monitoring, relay},
    place::{wait_until, wait_until_within},
    product::Product,
};

const IP: &str = "10.1.0.19";
/// The cut that heals.
const CUT: Duration = Duration::from_secs(43);
const POLICY: &str = "
version: 1
name: ledger-site-loss
item: db9
mode: armed
sources: [alertmanager]
match: [alertname = LedgerDown, severity = critical]
hold-down: 55s
freshness: 1m
approval: { need: 1, within: 5m }
failover: { point: latest-processed, fence-timeout: 5s, accept-unfenced: two minutes without a sign of site A }
";

fn failovers(product: &Product) -> Vec<Value> {
    let runs = product.ask(&["runs", "--item", "db9"]);
    runs["items"].as_array().unwrap().iter().filter(|run| run["workflow"] == "failover").cloned().collect()
}

fn deliveries(product: &Product) -> usize {
    product.ask(&["trigger", "deliveries", "--limit", "1000"])["items"].as_array().unwrap().len()
}

/// Ends of evaluations, newest first.
fn explained(product: &Product) -> Vec<Value> {
    product.ask(&["trigger", "explain", "ledger-site-loss", "--last", "100"]).as_array().unwrap().clone()
}

fn watched(lab: &Lab, product: &Product) -> Monitoring {
    let made = product.ask(&["trigger", "source", "create", "alertmanager", "--kind", "alertmanager"]);
    let hook = Hook {
        url: made["url"].as_str().unwrap().to_owned(),
        token: made["secret"].as_str().unwrap().to_owned(),
        ca: product.state_dir().join("pki/ca.crt"),
    };
    let file = product.dir().join("policy.yml");
    fs::write(&file, POLICY).unwrap();
    let applied = product.ask(&["trigger", "apply", "-f", file.to_str().unwrap()]);
    assert_eq!((&applied["version"], &applied["mode"]), (&json!(1), &json!("armed")));
    let watched: SocketAddr = format!("{}:9100", lab.ip("sitea")).parse().unwrap();
    relay(&lab.netns("sitea"), watched, format!("{IP}:8080").parse().unwrap());
    let monitoring = Monitoring::start(&lab.place("wan"), product.dir(), watched, &hook);
    monitoring.sees_it_up();
    monitoring
}

/// 43 seconds without a sign, then it answers again.
fn a_cut_heals(lab: &Lab, product: &Product, monitoring: &Monitoring) {
    let cut_at = Instant::now();
    lab.cut("sitea");
    monitoring.says_it_is_down();
    let open = wait_until("the alert is looked at", || product.ask(&["trigger", "list"])["items"][0]["open_run"].as_str().map(str::to_owned));
    wait_until("43 seconds are over", || (cut_at.elapsed() >= CUT).then_some(()));
    lab.heal("sitea");
    let ended = product.ended(&open);
    assert_eq!(ended["state"], "completed", "{ended}");
    let said = product.say(&["trigger", "explain", "ledger-site-loss"]);
    for words in ["started nothing", "was resolved at", "NO  hold-down", "waits until"] {
        assert!(said.out.contains(words), "{words}: {}", said.out);
    }
    assert_eq!(failovers(product), Vec::<Value>::new());
    assert_eq!(product.item_state("db9"), "protected");
}

#[test]
fn a_cut_of_43_seconds_starts_nothing_and_a_dead_site_one_failover_after_somebody_agreed() {
    if !kvm_or_skip("a_cut_of_43_seconds_starts_nothing_and_a_dead_site_one_failover_after_somebody_agreed") {
        return;
    }
    let lab = Lab::up("alerts");
    let mut product = lab.product("alerts");
    agents(&lab, &mut product);
    let source = lab.guest("sitea", "db9", IP, 0);
    protect(&product, "db9", IP, "2s");
    let kept = source.append(40);
    let monitoring = watched(&lab, &product);
    a_cut_heals(&lab, &product, &monitoring);
    // The source's agent has to find its way back before there are points again.
    wait_until("points are taken again", || product.is_connected("agent-sitea").then_some(()));
    next_whole_point(&product, "db9");

    lab.kill_guest("sitea", "db9");
    lab.cut("sitea");
    product.kill_agent("agent-sitea");
    monitoring.says_it_is_down();
    let asked = wait_until_within(Duration::from_secs(150), "somebody is asked", || {
        let asked = product.ask(&["approve"]);
        asked["policies"].as_array().unwrap().first().cloned()
    });
    assert_eq!(failovers(&product), Vec::<Value>::new(), "nothing is started before somebody agrees");
    let run = asked["open_run"].as_str().unwrap().to_owned();
    let why = product.ask(&["why", &run]);
    assert!(why["why"].as_str().unwrap().contains("switchback approve"), "{why}");
    let before = deliveries(&product);
    let evaluated = product.ask(&["approve", "ledger-site-loss", "--reason", "site A burns", "--wait", "--timeout", "5m"]);
    assert_eq!((&evaluated["state"], &evaluated["output"]["ended"]), (&json!("completed"), &json!("started")), "{evaluated}");
    let guest = lab.ledger("siteb", IP);
    let status = wait_until("the machine answers at site B", || guest.status());
    assert_eq!((status.found, guest.verify().1), (kept, 0));

    wait_until("both Alertmanagers have repeated themselves", || (deliveries(&product) >= before + 6).then_some(()));
    let started = failovers(&product);
    assert_eq!(started.len(), 1, "{started:?}");
    let outcomes: Vec<Value> = explained(&product).iter().map(|evaluation| evaluation["outcome"]["ended"].clone()).collect();
    assert_eq!(outcomes.iter().filter(|ended| **ended == "started").count(), 1, "{outcomes:?}");
    assert_eq!(product.item_state("db9"), "commit pending");
    assert_eq!(product.ask(&["verify"])["differences"], json!([]));
}
