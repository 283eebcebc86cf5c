//! A plan of three tiers on real machines, with the shipped programs: two databases that are a replication group, two application
//! servers, one web server. Rehearsed, moved, accepted, turned round and brought home; and recovered when their site is dead.
//! Needs root and QEMU; `SWITCHBACK_REQUIRE_KVM=1` makes their absence a failure.
#![allow(clippy::unwrap_used, reason = "a test panics where its sentence does not hold")]

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use switchback_tests::{
    capture::Capture,
    drive::{agents, done, item, next_whole_point, protect},
    lab::{Lab, Ledger, kvm_or_skip},
    place::wait_until,
    product::Product,
};

/// Neighbours, so that whoever asks one of them from beside it has to mind the others.
const MACHINES: [(&str, &str); 5] = [("db1", "10.1.0.21"), ("db2", "10.1.0.22"), ("app1", "10.1.0.23"), ("app2", "10.1.0.24"), ("web", "10.1.0.25")];
const SHOP: &str = "version: 1
name: shop
from: sitea
to: siteb
rto-target: 10m
groups:
  - name: data
    items: [{ item: db1 }, { item: db2 }]
  - name: apps
    items:
      - { item: app1, after: [{ name: reaches-data, on: [test], guest: { item: app1, program: /bin/busybox, arguments: [sh, -c, ASKS], input: db1, repeatable: true } }] }
      - { item: app2, after: [{ name: reaches-data, on: [test], guest: { item: app2, program: /bin/busybox, arguments: [sh, -c, ASKS], input: db2, repeatable: true } }] }
  - name: front
    items: [{ item: web }]
";

/// In a guest: asks the ledger of the database that stands on standard input, and looks whether it is that one which answers.
const ASKS: &str = r#"read data; printf "GET /status HTTP/1.0\r\n\r\n" | nc -w 10 10.1.0.2${data#db} 8080 | grep -F "\"vm\":\"$data\"""#;

struct Shop {
    // Before the lab, whose networks it uses.
    product: Product,
    lab: Lab,
}

impl Shop {
    /// All machines protected, the databases with a common moment, the plan applied.
    fn open(name: &str) -> Self {
        let lab = Lab::up(name);
        let mut product = lab.product(name);
        agents(&lab, &mut product);
        for (machine, ip) in MACHINES {
            drop(lab.guest("sitea", machine, ip, 0));
            protect(&product, machine, ip, "3s");
        }
        // Emulated machines on a busy host stand still for longer than those of a real one.
        done(&product, &["group", "create", "shopdata", "--items", "db1,db2", "--interval", "3s", "--max-pause", "5s"]);
        let shop = Self { product, lab };
        shop.moment();
        let file = shop.lab.dir().join("shop.yaml");
        std::fs::write(&file, SHOP.replace("ASKS", &json!(ASKS).to_string())).unwrap();
        assert_eq!(shop.product.say(&["plan", "apply", "-f", file.to_str().unwrap()]).code, 0);
        shop
    }

    fn last_moment(&self) -> Value {
        self.product.ask_any(&["group", "describe", "shopdata"])["last"].clone()
    }

    /// A common moment that was begun after this call.
    fn moment(&self) -> Value {
        let mut last = self.last_moment();
        for _ in 0..2 {
            let before = std::mem::take(&mut last);
            last = wait_until("a common moment", || Some(self.last_moment()).filter(|now| now["taken_at"].as_str() > before["taken_at"].as_str()));
        }
        last
    }

    fn ledger(&self, site: &str, ip: &str) -> Ledger<'_> {
        self.lab.ledger(site, ip)
    }

    /// Every machine at a site writes; the number of each one's last record.
    fn writes(&self, site: &str, count: u32) -> BTreeMap<&'static str, u64> {
        MACHINES.iter().map(|(machine, ip)| (*machine, self.ledger(site, ip).append(count))).collect()
    }

    /// What each machine has on its disk; none of it may be bad.
    fn has(&self, site: &str) -> BTreeMap<&'static str, u64> {
        let of = |(machine, ip): &(&'static str, &str)| {
            let ledger = self.ledger(site, ip);
            wait_until(&format!("{machine} answers at {site}"), || ledger.status().map(|_| ()));
            let (records, bad) = ledger.verify();
            assert_eq!(bad, 0, "{machine}");
            (*machine, records)
        };
        MACHINES.iter().map(of).collect()
    }

    fn states(&self) -> BTreeSet<String> {
        MACHINES.iter().map(|(machine, _)| self.product.item_state(machine)).collect()
    }

    /// Everything that can be told of the machines and of where they run, but for what is past: how many runs had them, and that there
    /// was another machine once.
    fn stands(&self) -> Value {
        let of = |(machine, _): &(&str, &str)| {
            let mut view = item(&self.product, machine);
            for past in ["generation", "old_machine"] {
                view["record"]["state"][past].take();
            }
            json!({ "state": view["state"], "of": view["record"]["state"], "here": self.lab.runs("sitea", machine), "there": self.lab.runs("siteb", machine) })
        };
        let items: Vec<Value> = MACHINES.iter().map(of).collect();
        let group = self.product.ask_any(&["group", "describe", "shopdata"]);
        json!({ "items": items, "group": group["group"]["members"], "networks": self.lab.virsh("siteb", &["net-list", "--all", "--name"]).trim() })
    }

    /// Carries the plan out, prints its timeline, and returns that.
    fn work(&self, words: &[&str]) -> Value {
        let run = self.product.begin(&[&["plan", words[0], "shop"], &words[1..]].concat());
        let view = self.product.ended(&run);
        println!("{}\n", self.product.say(&["plan", "status", &run]).out);
        assert_eq!(view["state"], "completed", "{words:?}: {view}");
        let timeline = self.product.ask(&["plan", "status", &run]);
        let all_done = timeline["steps"].as_array().unwrap().iter().all(|view| view["step"]["state"] == "done");
        assert!(all_done, "{timeline}");
        timeline
    }
}

/// The way of a plan's run may add a tenth to what its own steps took.
fn adds_little(timeline: &Value) {
    let clock = |name: &str| timeline["clock"][name].as_u64().unwrap();
    let (elapsed, path) = (clock("elapsed_ms"), clock("critical_path_ms"));
    println!("RTO actual {elapsed} ms, critical path of its own steps {path} ms: {:.3}", elapsed as f64 / path as f64);
    assert!(path > 0 && elapsed * 10 <= path * 11, "{timeline}");
    assert_eq!(timeline["clock"]["late"], false);
}

/// When a step began and ended.
fn times(timeline: &Value, key: &str) -> (String, String) {
    let step = timeline["steps"].as_array().unwrap().iter().find(|view| view["key"] == *key).unwrap_or_else(|| panic!("no {key} in {timeline}"));
    assert_eq!(step["step"]["state"], "done", "{step}");
    (step["step"]["began_at"].as_str().unwrap().to_owned(), step["step"]["ended_at"].as_str().unwrap().to_owned())
}

/// Databases before applications before the web server.
fn in_order(timeline: &Value) {
    let of = |keys: &[&str]| keys.iter().map(|key| times(timeline, key)).collect::<Vec<_>>();
    let (data, apps, web) = (of(&["data/db1/start", "data/db2/start"]), of(&["apps/app1/start", "apps/app2/start"]), of(&["front/web/start"]));
    for (earlier, later) in [(&data, &apps), (&apps, &web)] {
        let (ended, began) = (earlier.iter().map(|times| &times.1).max(), later.iter().map(|times| &times.0).min());
        assert!(ended <= began, "{timeline}");
    }
}

fn rehearsed(shop: &Shop) {
    let (lab, product) = (&shop.lab, &shop.product);
    let mac = |machine: &str| lab.virsh("sitea", &["dumpxml", machine]).split("<mac address='").nth(1).and_then(|rest| rest.split('\'').next()).unwrap().to_owned();
    let macs: Vec<String> = MACHINES.iter().map(|(machine, _)| mac(machine)).collect();
    let (at_b, line_b) = (Capture::of(lab, "siteb", "prod", &macs), Capture::of(lab, "siteb", "wan0", &macs));
    let before = shop.stands();
    let timeline = shop.work(&["test-failover", "--ttl", "2h"]);
    in_order(&timeline);
    for app in ["app1", "app2"] {
        times(&timeline, &format!("apps/{app}/after/reaches-data"));
    }
    let networks: BTreeSet<String> = MACHINES.iter().map(|(machine, _)| isolation(product, machine)).collect();
    assert_eq!(networks.len(), 1, "one network for all: {networks:?}");
    println!("{}", item(product, "web")["record"]["test_copy"]["evidence"][0]);
    shop.work(&["clean-test-failover"]);
    assert_eq!(shop.stands(), before, "nothing is left of the copies");
    assert_eq!((at_b.frames(), line_b.frames()), (0, 0), "frames of the copies on production");
}

/// On which network a copy is.
fn isolation(product: &Product, machine: &str) -> String {
    let view = item(product, machine);
    let copy = &view["record"]["test_copy"];
    let stays = |name: &str| copy[name].as_str().and_then(|at| at.parse::<chrono::DateTime<chrono::Utc>>().ok()).unwrap_or_else(|| panic!("{copy}"));
    assert!((stays("expires_at") - stays("since")).num_minutes() < 121, "as it was asked for: {copy}");
    copy["evidence"][0].as_str().and_then(|text| text.split(':').next()).unwrap_or_else(|| panic!("{copy}")).to_owned()
}

#[test]
fn three_tiers_are_rehearsed_moved_accepted_turned_round_and_brought_home_without_loss() {
    if !kvm_or_skip("three_tiers_are_rehearsed_moved_accepted_turned_round_and_brought_home_without_loss") {
        return;
    }
    let shop = Shop::open("tiers");
    let at_first = shop.stands();
    shop.writes("sitea", 11);
    rehearsed(&shop);

    let written = shop.writes("sitea", 7);
    let moved = shop.work(&["planned-failover", "--shut-down-timeout", "60s"]);
    in_order(&moved);
    assert_eq!(shop.has("siteb"), written, "nothing is lost on the way there");
    adds_little(&moved);
    shop.work(&["commit"]);
    assert_eq!(shop.states(), ["committed".to_owned()].into());
    shop.work(&["reprotect"]);
    assert_eq!(shop.states(), ["protected".to_owned()].into());
    let written = shop.writes("siteb", 5);
    let back = shop.work(&["failback", "--shut-down-timeout", "60s"]);
    in_order(&back);
    assert_eq!(shop.has("sitea"), written, "nothing is lost on the way home");
    adds_little(&back);
    shop.work(&["commit"]);
    shop.work(&["reprotect"]);
    assert_eq!(shop.stands(), at_first);
    shop.moment();
    println!("{}", shop.product.say(&["plan", "runs", "shop"]).out);
    assert_eq!(shop.product.ask(&["verify"])["differences"], json!([]));
}

#[test]
fn three_tiers_whose_site_is_dead_are_recovered_in_order_with_the_databases_at_one_moment() {
    if !kvm_or_skip("three_tiers_whose_site_is_dead_are_recovered_in_order_with_the_databases_at_one_moment") {
        return;
    }
    let mut shop = Shop::open("dead");
    let written = shop.writes("sitea", 13);
    next_whole_point(&shop.product, "web");
    shop.moment();
    shop.writes("sitea", 3);
    // The whole site at once.
    shop.product.kill_agent("agent-sitea");
    for (machine, _) in MACHINES {
        shop.lab.kill_guest("sitea", machine);
    }
    shop.lab.kill_libvirtd("sitea");
    shop.lab.cut("sitea");
    let accept = ["--accept-unfenced", "--reason", "site A burns", "--fence-timeout", "3s"];
    let timeline = shop.work(&[&["failover", "--point", "latest-multi-vm-processed"], &accept[..]].concat());
    in_order(&timeline);
    let moment = |machine: &str| {
        let chosen = item(&shop.product, machine)["record"]["chosen"]["point"].as_u64().unwrap();
        shop.product.points(machine)[&chosen]["group"]["moment"].as_str().unwrap().to_owned()
    };
    assert_eq!(moment("db1"), moment("db2"), "the databases are at one moment");
    let found = shop.has("siteb");
    assert!(written.iter().all(|(machine, records)| found[machine] >= *records), "{found:?} of {written:?}");
    adds_little(&timeline);
    shop.work(&["commit"]);
    println!("{}", shop.product.say(&["plan", "runs", "shop"]).out);
    assert_eq!(shop.product.ask(&["verify"])["differences"], json!([]));
}
