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
        (shop.replace("may the shop", "may\\0 the shop"), 2, "a text in the plan has the character NUL"),
        (format!("{shop}---\n{shop}"), 2, "another document begins here; a plan is one"),
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
        (vec!["plan", "undo", "shop"], 4, "there is nothing to do for undo of plan shop, nothing has changed. db1: there is nothing to undo: it is protected"),
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
    let told = product.say(&["plan", "remove", "shop"]);
    assert!(told.code == 4 && told.err.contains(&format!("`switchback cancel {run}` first")), "{told:?}");
    // What is done with already, what has not begun, and a plan that wants the same.
    assert_eq!(scene.plan("version: 1\nname: other\nfrom: a\nto: b\ngroups: [{ name: all, items: [{ item: db2 }] }]\n", &["plan", "apply"]).code, 0);
    for words in [&["commit", "db1"][..], &["undo", "db1", "--discard-writes"], &["hold", "db1", "--point", "1", "--reason", "x"], &["plan", "commit", "other"]] {
        let told = product.say(words);
        let named = told.err.contains(&format!("plan shop carries out failover in run {run}, and has db")) && told.err.contains(&format!("`switchback cancel {run}`"));
        assert!(told.code == 4 && named, "{words:?}: {told:?}");
    }
    assert_eq!(product.item_state("db1"), "commit pending");
    assert_eq!(product.say(&["plan", "remove", "other"]).code, 0);
    assert_eq!(product.ask(&["plan", "list"])["items"][0]["open_run"], json!(run));
    assert!(product.say(&["cancel", &run, "--wait"]).out.contains("is cancelled"));
    assert_eq!(product.item_state("db1"), "commit pending", "it was powered on already");
    assert_eq!(product.item_state("web"), "protected", "it was put back");
    let told = product.say(&["plan", "reprotect", "shop"]);
    let first = "there is nothing to do for reprotect of plan shop, nothing has changed. db1: it is commit pending: it was failed over and not committed, commit first; db2";
    assert!(told.code == 4 && told.err.contains(first), "{told:?}");
    drop(product.ask(&["commit", "db1", "--wait"]));
    for (work, expected) in [
        ("reprotect", "reprotect of plan shop would stop at 1 of its 3 machines. db2: it is commit pending: it was failed over and not committed, commit first"),
        ("undo", "undo of plan shop would stop at 1 of its 3 machines. db1: it is committed: what it was failed over from is given up"),
    ] {
        let told = product.say(&["plan", work, "shop"]);
        assert!(told.code == 4 && told.err.contains(expected) && !told.err.contains("web: "), "{work}: {told:?}");
    }
    let listed = product.ask(&["plan", "list"])["items"][0].clone();
    assert_eq!((&listed["last_run"]["run"], &listed["last_run"]["work"], &listed["open_run"]), (&json!(run), &json!("unplanned"), &Value::Null));
    assert_eq!(product.say(&["plan", "remove", "shop"]).code, 0);
    assert_eq!(product.ask(&["plan", "list"])["items"], json!([]));
    assert_eq!(product.ask(&["plan", "runs", "shop"])["items"][0]["run"], json!(run), "its histories stay");
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

    let agree = "    before: [{ name: agree, approval: { need: 2, of: [dba], within: 5m } }]\n";
    let asks = shop.replace("groups:", &format!("roles: {{ dba: [{}, nobody-yet] }}\ngroups:", scene.me()));
    assert_eq!(scene.plan(&format!("{asks}{agree}"), &["plan", "apply"]).code, 0);
    let unheard = "critical data/agree asks 2 of dba, and 1 of 2 people can answer: nobody-yet has no token";
    assert!(not_well().contains(&unheard.to_owned()), "{:?}", not_well());
    drop(product.ask(&["token", "create", "--name", "nobody-yet", "--role", "operator"]));
    assert!(!not_well().iter().any(|line| line.contains("data/agree")), "{:?}", not_well());

    let told = product.say(&["check", "--plan", "none"]);
    assert!(told.code == 3 && told.err.contains("no plan is called none"), "{told:?}");
}

#[test]
fn what_a_plan_asks_is_told_wherever_somebody_looks_and_what_is_applied_meanwhile_is_for_the_next_run() {
    let scene = Scene::new("plans-asked");
    let product = &scene.product;
    let me = scene.me();
    let shop = SHOP.replace("[local]", &format!("[{me}]")).replace("ROLE", "boss");
    for words in [["plan", "diff"], ["plan", "apply"]] {
        let told = scene.plan(&shop, &words);
        assert!(told.code == if words[1] == "diff" { 6 } else { 0 }, "{told:?}");
        for expected in ["plan shop is new", "db1, db2 after db1", "agree (approval)", "a failover of it has 7 steps, among them 1 approval"] {
            assert!(told.out.contains(expected), "{expected}: {told:?}");
        }
    }
    let told = scene.plan(&shop, &["plan", "apply"]);
    assert!(told.code == 0 && told.out.starts_with("unchanged: version 1 has this text"), "{told:?}");
    let told = scene.plan(&format!("# of the shop\n{shop}"), &["plan", "diff"]);
    assert!(told.code == 0 && told.out.contains("only the form of the text is another"), "{told:?}");
    assert_eq!(product.ask(&["get", "plans"])["items"][0]["name"], "shop");
    assert_eq!(product.ask(&["get", "plan", "shop"])["version"], 1);
    assert_eq!(product.ask(&["describe", "plan", "shop"])["groups"], 2);
    assert_eq!(product.ask(&["get", "groups"])["items"], json!([]));
    assert_eq!(product.say(&["get", "group", "none"]).code, 3);

    let run = product.begin(&["plan", "failover", "shop"]);
    wait_until("the plan asks", || product.ask(&["approve"])["plans"].as_array().filter(|all| !all.is_empty()).cloned());
    let listed = product.say(&["approve"]).out;
    assert!(listed.contains("web/before/agree") && listed.contains("approve|deny") && listed.contains(&run), "{listed}");
    let answer = format!("`switchback plan answer {run} approve|deny --step web/before/agree`");
    let asks = format!("for 1 of {me} (boss) to answer about web/before/agree, \"may the shop open elsewhere?\" (nobody has yet): {answer}");
    let runs: Vec<Value> = product.ask(&["runs", "--open"])["items"].as_array().unwrap().clone();
    let of = |about: &str| runs.iter().find(|run| run["workflow_id"] == about).unwrap_or_else(|| panic!("no run of {about} in {runs:?}"))["run"].as_str().unwrap().to_owned();
    let why = |run: &str| product.ask(&["why", run])["why"].as_str().unwrap().to_owned();
    for (asked, begins) in [(run.clone(), "waits until "), (of("plan:shop/web"), "waits until "), (of("item:web"), "waits for its turn in the plan of run ")] {
        let said = why(&asked);
        assert!(said.starts_with(begins) && said.ends_with(&asks), "{said}");
    }
    let told = product.say(&["plan", "status", &run]);
    assert_eq!(told.code, 0, "a run that goes on is no error: {told:?}");
    assert!(told.out.contains("plus 1 approval: how long people take is not known, and no time here counts it (web/before/agree)"), "{told:?}");
    assert!(told.out.contains(&format!("1 of {me} (boss), until ")), "{told:?}");

    let told = scene.plan(&shop.replace("10m", "11m"), &["plan", "apply"]);
    assert!(told.out.contains("rto-target") && told.out.contains(&format!("run {run} (failover) goes on with version 1; version 2 is for the next")), "{told:?}");
    let told = product.say(&["approve", &of("plan:shop/web")]);
    assert!(told.code == 4 && told.err.contains(&answer), "{told:?}");
    let told = product.say(&["approve", &run, "--reason", "go", "--wait"]);
    assert!(told.code == 0 && told.out.contains("failover of plan shop ended"), "{told:?}");
    let told = product.say(&["approve", "shop"]);
    assert!(told.code == 4 && told.err.contains("no run carries plan shop out now"), "{told:?}");
    assert!(product.say(&["approve"]).out.contains("nobody is asked anything now"));
    let told = product.say(&["plan", "status", "shop"]);
    assert!(told.code == 2 && told.err.contains("`switchback plan runs shop`"), "{told:?}");

    let created = product.ask(&["token", "create", "--name", "ada", "--role", "operator"]);
    let told = product.say(&["token", "list"]);
    assert!(told.code == 0 && told.out.contains("ada") && told.out.contains("operator") && !told.out.contains(created["token"].as_str().unwrap()), "{told:?}");
}

#[test]
fn a_run_that_no_worker_has_taken_up_begins_and_its_test_says_what_it_leaves_out_and_holds_the_plan() {
    let scene = Scene::new("plans-begin");
    let product = &scene.product;
    let me = scene.me();
    let shop = SHOP.replace("[local]", &format!("[{me}]")).replace("ROLE", "boss");
    assert_eq!(scene.plan(&shop, &["plan", "apply"]).code, 0);
    let workers: Vec<i32> = ["worker-1", "worker-2"].iter().map(|name| product.pid(name).unwrap()).collect();
    workers.iter().for_each(|pid| signal(*pid, "STOP"));
    let told = product.say(&["plan", "test-failover", "shop", "--wait", "--timeout", "2s"]);
    workers.iter().for_each(|pid| signal(*pid, "CONT"));
    assert!(told.code == 124 && told.err.contains(" begins\n") && !told.err.contains("no answer"), "{told:?}");
    let run = product.ask(&["runs", "--open"])["items"].as_array().unwrap().iter().find(|run| run["workflow"] == "plan").unwrap()["run"].as_str().unwrap().to_owned();
    assert_eq!(product.ended(&run)["state"], "completed");
    let told = product.say(&["plan", "status", &run]);
    let skipped = told.out.lines().find(|line| line.contains("web/before/agree")).unwrap_or_default();
    assert!(told.code == 0 && skipped.contains("skipped") && skipped.ends_with("not in a test: 1 of boss agree"), "{told:?}");
    let keys: Vec<String> = product.ask(&["plan", "status", &run])["steps"].as_array().unwrap().iter().map(|view| view["key"].as_str().unwrap().to_owned()).collect();
    assert_eq!(keys[keys.len() - 2..], ["web/before/agree", "web/web/start"], "{keys:?}");

    let told = product.say(&["plan", "remove", "shop"]);
    assert!(told.code == 4 && told.err.contains("copies of db1, db2, web are up after a test failover; `switchback plan clean-test-failover shop` first"), "{told:?}");
    assert_eq!(product.say(&["plan", "clean-test-failover", "shop", "--wait"]).code, 0);
    let night = format!("{}commit: {{ after: 1h, then: undo }}\n", shop.replace("need: 1, of: [boss], within: 5m", "need: 1, of: [boss], within: 1s, on-silence: go-on"));
    assert_eq!(scene.plan(&night, &["plan", "apply"]).code, 0);
    let told = product.say(&["plan", "failover", "shop", "--wait"]);
    assert!(told.code == 0, "{told:?}");
    let told = product.say(&["plan", "remove", "shop"]);
    assert!(told.code == 4 && told.err.contains("the commit policy of plan shop judges the failover by itself, which nothing would do without the plan"), "{told:?}");
    assert_eq!(product.ask(&["plan", "describe", "shop"])["deadline"]["cause"], "commit policy of plan shop", "it stays");
    assert_eq!(product.say(&["plan", "commit", "shop", "--wait"]).code, 0);
    assert_eq!(product.say(&["plan", "remove", "shop"]).code, 0);
}

#[test]
fn an_item_is_forgotten_when_nothing_of_it_is_left_and_who_names_it_is_told() {
    let scene = Scene::new("plans-forget");
    let product = &scene.product;
    let names = || product.ask(&["get", "items"])["items"].as_array().unwrap().iter().map(|item| item["record"]["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>();
    let stands = |item: &str| product.ask_any(&["check", item])["findings"].as_array().unwrap().iter().map(|f| format!("{} {}", f["severity"], f["next"])).collect::<Vec<_>>();
    let refused = |words: &[&str], code: i32, problem: &str, detail: &str| {
        let said = product.say(words);
        assert!(said.code == code && said.err.contains(&format!("problem:   /problems/{problem}")) && said.err.contains(detail), "{words:?}: {said:?}");
    };

    let failed = product.say(&["protect", "ghost", "--from", "a", "--to", "b", "--wait"]);
    assert_eq!((failed.code, product.item_state("ghost").as_str()), (1, "failed(protect), still unprotected"), "{failed:?}");
    assert_eq!(stands("ghost"), ["\"critical\" \"Protect it; or, if that is not wanted any more: switchback forget ghost\""]);
    let gone = product.say(&["forget", "ghost", "--wait"]);
    assert_eq!((gone.code, gone.out.trim()), (0, "item ghost is forgotten, with what sites and drills have said of it; its histories stay"), "{gone:?}");
    refused(&["forget", "ghost"], 3, "unknown-item", "no item is called ghost");
    refused(&["check", "ghost"], 3, "unknown-item", "no item is called ghost");

    let text = "version: 1\nname: shop\nfrom: a\nto: b\ngroups: [{ name: all, items: [{ item: db1 }, { item: db2 }] }]\n";
    assert_eq!(scene.plan(text, &["plan", "apply"]).code, 0);
    refused(&["forget", "db1"], 4, "operation-not-allowed", "item db1 is protected, which does not allow forget");
    assert_eq!(product.ask(&["unprotect", "db1", "--wait"])["state"], "completed");
    assert_eq!(stands("db1"), ["\"critical\" \"Protect it; or, if that is not wanted any more: switchback forget db1\""]);
    wait_until("its points are gone", || product.points("db1").is_empty().then_some(()));
    let run = product.begin(&["forget", "db1"]);
    assert_eq!(product.ended(&run)["state"], "completed");
    let output = product.events(&run).last().unwrap()["body"]["command"]["output"].clone();
    assert_eq!(output, json!({ "was": { "is": "unprotected" }, "named_by": ["plan shop"] }));
    assert_eq!(names(), ["db2", "web"]);
    let plan = product.ask_any(&["check", "--plan", "shop"]);
    assert!(plan["findings"].as_array().unwrap().iter().any(|f| f["what"] == "item db1 is not known" && f["severity"] == "critical"), "{plan}");
    let subjects = || product.ask_any(&["check"])["items"].as_array().unwrap().iter().map(|view| view["subject"].as_str().unwrap().to_owned()).collect::<Vec<_>>();
    assert!(!subjects().iter().any(|subject| subject == "item:db1" || subject == "item:ghost"), "{:?}", subjects());
    assert_eq!(product.ask(&["verify"])["differences"], json!([]));

    drop(product.ask(&["protect", "db1", "--from", "a", "--to", "b", "--interval", "1s", "--wait"]));
    assert_eq!(names(), ["db1", "db2", "web"], "one of the same name begins anew");
    assert_eq!(product.ask(&["verify"])["differences"], json!([]));
}

#[test]
fn a_dark_site_stops_a_plan_at_once_and_what_was_left_there_is_given_back_when_it_answers() {
    let scene = Scene::new("plans-dark");
    let product = &scene.product;
    let me = scene.me();
    let shop = SHOP.replace("[local]", &format!("[{me}]")).replace("ROLE", "boss");
    assert_eq!(scene.plan(&shop, &["plan", "apply"]).code, 0);
    product.world(json!({ "do": "site-down", "site": "a", "down": true }));
    let began = std::time::Instant::now();
    let told = product.say(&["failover", "db1", "--wait"]);
    assert!(told.code == 1 && format!("{}{}", told.out, told.err).contains("--accept-unfenced"), "{told:?}");
    let run = product.begin(&["plan", "failover", "shop"]);
    assert_eq!(product.ended(&run)["state"], "failed");
    assert!(began.elapsed() < std::time::Duration::from_secs(60), "two that wait for nobody took {:?}", began.elapsed());
    assert!(["db1", "db2", "web"].iter().all(|item| product.item_state(item).ends_with("protected")));

    let run = product.begin(&["plan", "failover", "shop", "--accept-unfenced", "--reason", "the site burns"]);
    wait_until("the plan asks", || product.ask_any(&["plan", "status", &run])["questions"].as_array().filter(|all| !all.is_empty()).cloned());
    assert!(product.say(&["cancel", &run, "--wait"]).out.contains("is cancelled"));
    assert_eq!((product.item_state("db1"), product.item_state("web")), ("commit pending".to_owned(), "failed(failover)".to_owned()));
    let web = product.ask(&["get", "item", "web"]);
    assert_eq!(web["record"]["source_left"]["site"], "a", "{web}");
    assert!(web["alarms"][0].as_str().unwrap().contains("That is made good when the site answers"), "{web}");
    assert!(product.ask(&["get", "item", "db1"])["record"]["source_left"].is_null());

    product.world(json!({ "do": "site-down", "site": "a", "down": false }));
    wait_until("the source of web is given back", || (product.item_state("web") == "protected").then_some(()));
    let web = product.ask(&["get", "item", "web"]);
    assert!(web["record"]["source_left"].is_null() && web["alarms"] == json!([]), "{web}");
    let told = product.say(&["plan", "undo", "shop"]);
    let named = told.err.contains("loses, of db1: all that it has written at b since ") && told.err.contains("; db2: all that") && !told.err.contains("web: ");
    assert!(told.code == 4 && named, "{told:?}");
    let run = product.begin(&["plan", "undo", "shop", "--discard-writes"]);
    assert_eq!(product.ended(&run)["state"], "completed");
    let run = product.begin(&["plan", "failover", "shop"]);
    wait_until("the plan asks", || (product.say(&["plan", "answer", &run, "approve"]).code == 0).then_some(()));
    assert_eq!(product.ended(&run)["state"], "completed");
    assert_eq!(product.world(json!({ "do": "ledger" }))["applied_more_than_once"], json!([]));
    assert_eq!(product.ask(&["verify"])["differences"], json!([]));
}
