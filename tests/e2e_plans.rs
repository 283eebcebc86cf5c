//! Plans with the product's processes on simulated sites: applied, refused, carried out while owners are killed, answered, undone by
//! themselves.
#![allow(clippy::unwrap_used, reason = "a test panics where its sentence does not hold")]

use serde_json::{Value, json};
use switchback_tests::product::{Product, signal, wait_until};

const SHOP: &str = r#"version: 1
name: shop
from: a
to: b
rto-target: 10m
roles: { boss: [local], dba: [ada] }
groups:
  - name: data
    items: [{ item: db1 }, { item: db2, needs: [db1] }]
  - name: web
    before: [{ name: agree, approval: { need: 1, of: [ROLE], within: 5m, question: "may the shop open elsewhere?" } }]
    items: [{ item: web }]
"#;

struct Scene {
    product: Product,
    file: std::path::PathBuf,
}

impl Scene {
    fn new(name: &str) -> Self {
        let mut product = Product::start(name, &[]);
        product.host_simulated_sites(&[]);
        for machine in ["db1", "db2", "web"] {
            product.world(json!({ "do": "add-machine", "site": "a", "machine": machine, "blocks": 64 }));
            drop(product.ask(&["protect", machine, "--from", "a", "--to", "b", "--interval", "1s", "--wait"]));
        }
        let file = product.dir().join("plan.yaml");
        Self { product, file }
    }

    /// Who asks over the socket, as histories name them.
    fn me(&self) -> String {
        let run = self.product.ask(&["runs"])["items"][0]["run"].as_str().unwrap().to_owned();
        self.product.ask(&["get", "runs", &run])["requested_by"].as_str().map(str::to_owned).unwrap_or_default()
    }

    fn plan(&self, text: &str, words: &[&str]) -> switchback_tests::product::Said {
        std::fs::write(&self.file, text).unwrap();
        self.product.say(&[words, &["-f", self.file.to_str().unwrap()]].concat())
    }
}

#[test]
fn a_plan_is_applied_compared_carried_out_while_its_owners_are_killed_and_goes_home() {
    let scene = Scene::new("plans");
    let product = &scene.product;
    let me = scene.me();
    let shop = SHOP.replace("[local]", &format!("[{me}]")).replace("ROLE", "boss");
    assert_eq!(scene.plan(&shop, &["plan", "apply"]).code, 0);
    assert_eq!(scene.plan(&shop, &["plan", "diff"]).code, 0);
    let told = scene.plan(&shop.replace(", needs: [db1]", ""), &["plan", "diff"]);
    assert!(told.code == 6 && told.out.contains("groups.data.items.db2.needs"), "{told:?}");

    let run = product.begin(&["plan", "failover", "shop"]);
    let asked = wait_until("the plan asks", || product.ask_any(&["plan", "status", &run])["questions"].as_array().filter(|all| !all.is_empty()).cloned());
    assert_eq!((&asked[0]["text"], &asked[0]["step"]), (&json!("may the shop open elsewhere?"), &json!("web/before/agree")));
    assert_eq!(product.item_state("db2"), "commit pending");
    assert_eq!(product.item_state("web"), "failing over", "it is prepared and waits");
    let told = product.say(&["plan", "failover", "shop"]);
    assert!(told.code == 4 && told.err.contains("has not ended"), "{told:?}");
    signal(product.owner(&product.events(&run)), "KILL");
    let told = product.say(&["plan", "answer", &run, "perhaps"]);
    assert!(told.code == 2 && told.err.contains("approve, deny"), "{told:?}");
    assert_eq!(product.ask(&["plan", "answer", &run, "approve", "--reason", "go"])["choice"], "approve");
    assert_eq!(product.ended(&run)["state"], "completed");
    let status = product.ask(&["plan", "status", &run]);
    let states: Vec<(&str, &str)> = status["steps"].as_array().unwrap().iter().map(|view| (view["key"].as_str().unwrap(), view["step"]["state"].as_str().unwrap())).collect();
    let expected = ["data/db1/prepare", "data/db2/prepare", "web/web/prepare", "data/db1/start", "data/db2/start", "web/before/agree", "web/web/start"];
    assert_eq!(states.iter().map(|(key, _)| *key).collect::<std::collections::BTreeSet<_>>(), expected.into(), "{status}");
    assert!(states.iter().all(|(_, state)| *state == "done"), "{states:?}");
    let (elapsed, path) = (status["clock"]["elapsed_ms"].as_u64().unwrap(), status["clock"]["critical_path_ms"].as_u64().unwrap());
    assert!(path > 0 && elapsed >= path && status["clock"]["late"] == false, "{status}");

    for (work, state) in [("commit", "committed"), ("reprotect", "protected"), ("failback", "commit pending"), ("commit", "committed"), ("reprotect", "protected")] {
        let run = product.begin(&["plan", work, "shop"]);
        if work == "failback" {
            wait_until("the plan asks", || (product.say(&["plan", "answer", &run, "approve"]).code == 0).then_some(()));
        }
        assert_eq!(product.ended(&run)["state"], "completed", "{work}");
        for machine in ["db1", "db2", "web"] {
            assert_eq!(product.item_state(machine), state, "{work} {machine}");
        }
    }
    assert_eq!(product.world(json!({ "do": "ledger" }))["applied_more_than_once"], json!([]));
    assert_eq!(product.ask(&["verify"])["differences"], json!([]));
}

#[test]
fn a_plan_that_does_not_fit_is_refused_and_so_is_who_plays_no_role() {
    let scene = Scene::new("plans-bad");
    let product = &scene.product;
    let shop = SHOP.replace("ROLE", "dba");
    for (text, code, expected) in [
        (shop.replace("needs: [db1]", "need: [db1]"), 2, "line 9 column 41: unknown field `need`"),
        (shop.replace("needs: [db1]", "need: [db1]"), 2, "did you mean `needs`?"),
        (shop.replace("{ item: db1 }", "{ item: db1, needs: [db2] }"), 2, "wait for each other in a circle: db1 needs db2 needs db1"),
        (shop.replace("item: web", "item: db1"), 2, "item db1 is there twice"),
        (shop.replace("item: web", "item: mail"), 3, "nobody protects mail"),
        (shop.replace("to: b", "to: c"), 3, "no agent is enrolled for a site c"),
        (shop.replace("rto-target: 10m", "point: '3'"), 2, "point 3 is one of one machine"),
        (shop.replace("rto-target: 10m", "point: latest-multi-vm-processed"), 2, "no machine of plan shop is in one"),
    ] {
        let told = scene.plan(&text, &["plan", "apply"]);
        assert!(told.code == code && told.err.contains(expected), "{expected}: {told:?}");
    }
    assert_eq!(product.ask(&["plan", "list"])["items"], json!([]), "nothing was kept");
    assert_eq!(scene.plan(&shop, &["plan", "apply"]).code, 0);
    for (words, code, expected) in [
        (vec!["plan", "failover", "shop", "--point", "3"], 2, "is one of one machine"),
        (vec!["plan", "failover", "shop", "--point", "latest-multi-vm-app-consistent"], 2, "make a group with `switchback group create`"),
        (vec!["plan", "undo", "shop"], 4, "discards everything they have written"),
        (vec!["plan", "commit", "shop"], 4, "there is nothing to commit"),
        (vec!["plan", "failover", "ship"], 3, "no plan is called ship"),
    ] {
        let told = product.say(&words);
        assert!(told.code == code && told.err.contains(expected), "{words:?}: {told:?}");
    }
    let run = product.begin(&["plan", "failover", "shop"]);
    wait_until("the plan asks", || product.ask_any(&["plan", "status", &run])["questions"].as_array().filter(|all| !all.is_empty()).cloned());
    let told = product.say(&["plan", "answer", &run, "approve"]);
    assert!(told.code == 5 && told.err.contains("plays none of the roles"), "{told:?}");
    assert!(product.say(&["cancel", &run, "--wait"]).out.contains("is cancelled"));
    assert_eq!(product.item_state("db1"), "commit pending", "it was powered on already");
    assert_eq!(product.item_state("web"), "protected", "it was put back");
}

#[test]
fn a_failover_that_nobody_judges_is_undone_by_itself() {
    let scene = Scene::new("plans-undo");
    let product = &scene.product;
    let text = "version: 1\nname: night\nfrom: a\nto: b\ncommit: { after: 3s, then: undo }\ngroups: [{ name: all, items: [{ item: db1 }] }]\n";
    assert_eq!(scene.plan(text, &["plan", "apply"]).code, 0);
    let run = product.begin(&["plan", "failover", "night"]);
    assert_eq!(product.ended(&run)["state"], "completed");
    let plan = product.ask(&["plan", "describe", "night"]);
    assert_eq!(plan["deadline"]["cause"], "commit policy of plan night", "{plan}");
    wait_until("it is undone", || (product.item_state("db1") == "protected").then_some(()));
    let runs: Vec<Value> = product.ask(&["plan", "runs", "night"])["items"].as_array().unwrap().clone();
    assert_eq!(runs.iter().map(|run| run["work"].as_str().unwrap()).collect::<Vec<_>>(), ["undo", "unplanned"]);
}

#[test]
fn a_plan_is_judged_with_all_its_machines_and_a_test_of_it_counts_until_it_changes() {
    let scene = Scene::new("plans-ready");
    let product = &scene.product;
    let shop = "version: 1\nname: shop\nfrom: a\nto: b\nrpo-target: 5m\ngroups:\n  - name: data\n    items: [{ item: db1 }, { item: db2, needs: [db1] }]\n";
    let dns = "    after: [{ name: dns, dns: { server: ns, zone: e.org, name: x.e.org, type: A, values: [10.0.0.1], ttl: 60, key: ddns } }]\n";
    let not_well = || {
        let told = product.say(&["check", "--plan", "shop", "-o", "json"]);
        let view: Value = serde_json::from_str(&told.out).unwrap_or_else(|error| panic!("{error}: {told:?}"));
        let findings = view["findings"].as_array().unwrap().iter().filter(|finding| finding["severity"] != "ok");
        findings.map(|f| format!("{} {}", f["severity"].as_str().unwrap(), f["what"].as_str().unwrap())).collect::<Vec<_>>()
    };
    assert_eq!(scene.plan(&format!("{shop}{dns}"), &["plan", "apply"]).code, 0);
    wait_until("the agents to have told what they can do", || (!not_well().iter().any(|line| line.starts_with("unknown"))).then_some(()));
    let lacks = "lacks secret ddns for data/dns (x.e.org A at ns)";
    assert_eq!(not_well(), [format!("critical site b {lacks}"), format!("critical site a {lacks}"), "warning no test of plan shop has passed".to_owned()]);

    assert_eq!(scene.plan(shop, &["plan", "apply"]).code, 0);
    for work in ["test-failover", "clean-test-failover"] {
        let run = product.begin(&["plan", work, "shop"]);
        assert_eq!(product.ended(&run)["state"], "completed", "{work}");
    }
    assert_eq!(not_well(), [""; 0]);
    let told = product.say(&["check", "--plan", "shop"]);
    assert!(told.code == 0 && told.out.starts_with("plan shop: ok, verified; since "), "{told:?}");
    let subjects: Vec<String> = product.ask_any(&["check"])["items"].as_array().unwrap().iter().map(|view| view["subject"].as_str().unwrap().to_owned()).collect();
    assert!(subjects.contains(&"plan:shop".to_owned()), "{subjects:?}");

    assert_eq!(scene.plan(&shop.replace("5m", "6m"), &["plan", "apply"]).code, 0);
    let found = not_well();
    assert!(found.len() == 1 && found[0].contains("something has changed: plan was "), "{found:?}");
    let told = product.say(&["check", "--plan", "none"]);
    assert!(told.code == 3 && told.err.contains("no plan is called none"), "{told:?}");
}
