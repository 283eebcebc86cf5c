//! The product's processes on simulated sites: the whole cycle, kills, zombies, traces, bad input.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm, reason = "a test panics where its sentence does not hold")]

use serde_json::{Value, json};
use switchback_tests::collector;
use switchback_tests::product::{Product, signal, wait_until};

const PROTECT: [&str; 9] = ["protect", "db9", "--from", "a", "--to", "b", "--interval", "1s", "--wait"];
const UNFENCED: [&str; 7] = ["failover", "db9", "--accept-unfenced", "--reason", "the site burns", "--fence-timeout", "2s"];

fn protected(name: &str) -> Product {
    let mut product = Product::start(name, &[]);
    product.host_simulated_sites(&[]);
    drop(product.ask(&PROTECT));
    product
}

fn source_down(product: &Product) {
    product.world(json!({ "do": "site-down", "site": "a", "down": true }));
}

#[test]
fn a_machine_is_protected_failed_over_and_committed_while_its_workers_and_database_are_killed() {
    let product = protected("cycle");
    for (block, content) in [(1, 11), (2, 22)] {
        product.world(json!({ "do": "write", "site": "a", "machine": "db9", "block": block, "content": content }));
    }
    let newest = |product: &Product| product.points("db9").into_keys().next_back().unwrap_or(0);
    let before = newest(&product);
    wait_until("two more points", || (newest(&product) > before + 1).then_some(()));
    source_down(&product);
    let run = product.begin(&UNFENCED);
    signal(product.owner(&product.seen(&run, "fence-machine")), "KILL");
    signal(product.pid("database").unwrap(), "QUIT");
    let view = product.ended(&run);
    assert_eq!(view["state"], "completed", "{view}");
    assert_eq!(product.item_state("db9"), "commit pending");
    let read = |block| product.world(json!({ "do": "read-recovered", "site": "b", "item": "db9", "block": block }))["content"].clone();
    assert_eq!((read(1), read(2)), (json!(11), json!(22)));
    let epochs: std::collections::BTreeSet<i64> = product.events(&run).iter().map(|event| event["run_epoch"].as_i64().unwrap()).collect();
    assert!(epochs.len() >= 2, "the run was taken over: {epochs:?}");
    assert_eq!(product.ask(&["commit", "db9", "--wait"])["state"], "completed");
    assert_eq!(product.item_state("db9"), "committed");
    assert_eq!(product.world(json!({ "do": "ledger" }))["applied_more_than_once"], json!([]));
    assert_eq!(product.ask(&["verify"])["differences"], json!([]));
}

/// Kills whoever works at a run as soon as it has scheduled this step, and waits for the end, which must be a good one.
fn done_in_spite_of_a_kill(product: &Product, words: &[&str], step: &str) -> Value {
    let run = product.begin(words);
    signal(product.owner(&product.seen(&run, step)), "KILL");
    let view = product.ended(&run);
    assert_eq!(view["state"], "completed", "{words:?}: {view}");
    product.events(&run).last().map(|event| event["body"]["command"]["output"].clone()).unwrap_or_default()
}

#[test]
fn a_machine_moves_away_by_plan_and_comes_home_while_the_owners_of_its_runs_are_killed() {
    let product = protected("circle");
    let write = |site: &str, block: u64| product.world(json!({ "do": "write", "site": site, "machine": "db9", "block": block, "content": block }));
    let read = |site: &str, block: u64| product.world(json!({ "do": "read", "site": site, "machine": "db9", "block": block }))["content"].clone();
    write("a", 1);
    let moved = done_in_spite_of_a_kill(&product, &["planned-failover", "db9"], "final-sync");
    assert_eq!((&moved["fenced"], read("b", 1)), (&json!(true), json!(1)), "{moved}");
    write("b", 2);
    let told = refused(&product, &[], &["change-point", "db9", "--point", "1"], 4, "confirmation-needed");
    assert!(told.contains("discards everything it has written there since") && told.contains("--discard-writes"), "{told}");
    refused(&product, &[], &["undo", "db9"], 4, "confirmation-needed");
    assert_eq!(product.ask(&["commit", "db9", "--wait"])["state"], "completed");
    let told = product.say(&["failback", "db9", "--wait"]);
    assert!(told.code == 1 && told.err.contains("--sync during-failover"), "{told:?}");
    let back = done_in_spite_of_a_kill(&product, &["reprotect", "db9"], "start-replication");
    assert!(back["point"].as_u64().is_some_and(|point| point > 0), "{back}");
    write("b", 3);
    drop(done_in_spite_of_a_kill(&product, &["failback", "db9"], "shut-down-machine"));
    assert_eq!([1, 2, 3].map(|block| read("a", block)), [1, 2, 3].map(Value::from), "all is at home");
    drop(done_in_spite_of_a_kill(&product, &["commit", "db9"], "retire-machine"));
    drop(done_in_spite_of_a_kill(&product, &["reprotect", "db9"], "prepare-replica"));
    let item = product.ask(&["get", "item", "db9"]);
    assert_eq!((&item["state"], &item["record"]["state"]["direction"], &item["alarms"]), (&json!("protected"), &json!("forward"), &json!([])));
    assert_eq!(product.world(json!({ "do": "ledger" }))["applied_more_than_once"], json!([]));
    assert_eq!(product.ask(&["verify"])["differences"], json!([]));
}

#[test]
fn an_item_that_was_not_reprotected_comes_home_by_a_full_copy_while_it_is_off() {
    let product = protected("full");
    product.world(json!({ "do": "write", "site": "a", "machine": "db9", "block": 1, "content": 11 }));
    assert_eq!(product.ask(&["planned-failover", "db9", "--wait"])["state"], "completed");
    assert_eq!(product.ask(&["commit", "db9", "--wait"])["state"], "completed");
    product.world(json!({ "do": "write", "site": "b", "machine": "db9", "block": 2, "content": 22 }));
    drop(done_in_spite_of_a_kill(&product, &["failback", "db9", "--sync", "during-failover"], "final-sync"));
    let read = |block| product.world(json!({ "do": "read", "site": "a", "machine": "db9", "block": block }))["content"].clone();
    assert_eq!((read(1), read(2)), (json!(11), json!(22)));
    assert_eq!(product.ask(&["undo", "db9", "--discard-writes", "--wait"])["state"], "completed", "before the commit it can go back again");
    assert_eq!(product.item_state("db9"), "protected");
    assert_eq!(product.world(json!({ "do": "power", "site": "b", "machine": "db9" }))["power"], "running");
    assert_eq!(product.world(json!({ "do": "ledger" }))["applied_more_than_once"], json!([]));
    assert_eq!(product.ask(&["verify"])["differences"], json!([]));
}

#[test]
fn a_dead_site_that_returns_is_quarantined_and_a_machine_that_is_started_there_all_the_same_raises_an_alarm() {
    let product = protected("returns");
    source_down(&product);
    assert_eq!(product.ended(&product.begin(&UNFENCED))["state"], "completed");
    assert_eq!(product.ask(&["get", "item", "db9"])["old_machine"], "unknown");
    product.world(json!({ "do": "site-down", "site": "a", "down": false }));
    let old = |word: &str| {
        wait_until(&format!("the old machine is {word}"), || (product.ask(&["get", "item", "db9"])["old_machine"] == word).then_some(()));
    };
    old("quarantined");
    assert_eq!(product.ask(&["get", "item", "db9"])["alarms"], json!([]));
    product.world(json!({ "do": "power-on", "site": "a", "machine": "db9" }));
    old("running");
    let told = product.say(&["get", "items"]);
    assert!(told.out.contains("RUNS TWICE") && told.out.contains("ALARM db9: machine db9 runs at both sites"), "{told:?}");
    assert_eq!(product.ask(&["commit", "db9", "--wait"])["state"], "completed");
    assert_eq!(product.ask(&["reprotect", "db9", "--wait"])["state"], "completed", "reprotect ends it and works from there");
    wait_until("its site to have told so", || (product.ask(&["get", "item", "db9"])["alarms"] == json!([])).then_some(()));
}

#[test]
fn a_worker_that_slept_past_its_lease_writes_nothing_when_it_wakes() {
    let product = protected("zombie");
    source_down(&product);
    let run = product.begin(&UNFENCED);
    let begun = product.seen(&run, "fence-machine");
    let (sleeper, pid) = (begun.last().unwrap()["worker"].clone(), product.owner(&begun));
    signal(pid, "STOP");
    let view = product.ended(&run);
    assert_eq!(view["state"], "completed", "{view}");
    let written = product.events(&run);
    let last_of_sleeper = written.iter().rposition(|event| event["worker"] == sleeper).unwrap();
    assert!(last_of_sleeper + 1 < written.len(), "somebody else finished the run");
    signal(pid, "CONT");
    wait_until("the sleeper notices that it is fenced", || product.log().contains("fenced: dropping all runs").then_some(()));
    assert_eq!(product.events(&run), written, "nothing was written by the sleeper");
    assert_eq!(product.ask(&["verify"])["differences"], json!([]));
}

#[test]
fn a_trace_of_a_failover_goes_from_the_request_to_the_site() {
    let collector = collector::start();
    let endpoint = collector.endpoint();
    let environment = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"),
        ("OTEL_BSP_SCHEDULE_DELAY", "200"),
    ];
    let mut product = Product::start("trace", &environment);
    product.host_simulated_sites(&environment);
    drop(product.ask(&PROTECT));
    let run = product.begin(&["failover", "db9"]);
    let view = product.ended(&run);
    let trace = view["trace_id"].as_str().unwrap().to_owned();
    let wanted = ["switchback-server", "switchback-worker", "switchback-agent"];
    let spans = wait_until("spans of all three processes", || {
        let spans: Vec<collector::Span> = collector.spans().into_iter().filter(|span| span.trace == trace).collect();
        wanted.iter().all(|service| spans.iter().any(|span| span.service == *service)).then_some(spans)
    });
    let named = |name: &str| spans.iter().filter(|span| span.name == name).count();
    assert!(named("turn") > 0 && named("activity") > 0, "{spans:?}");
    wait_until("the call to start the machine", || {
        let spans = collector.spans();
        spans.iter().any(|span| span.trace == trace && span.attributes.contains("start-machine")).then_some(())
    });
}

#[test]
fn a_guest_that_answers_no_check_is_waited_for() {
    let mut product = Product::start("silent", &[]);
    product.host_simulated_sites(&[]);
    drop(product.ask(&[&PROTECT[..], &["--check", "guest:/bin/true"]].concat()));
    let silent = |refuses: bool| product.world(json!({ "do": "refuse-service", "site": "b", "machine": "db9-test", "refuses": refuses }));
    assert_eq!(silent(true), json!({ "ok": true }));
    let run = product.begin(&["test-failover", "db9"]);
    wait_until("the check is asked in vain", || product.say(&["why", &run]).out.contains("nothing answers").then_some(()));
    silent(false);
    assert_eq!(product.ended(&run)["state"], "completed");
    let output = product.events(&run).last().unwrap()["body"]["command"]["output"].clone();
    assert!(output["serves"] == true && output["evidence"].as_str().unwrap().contains("guest:/bin/true answers"), "{output}");
}

/// A refusal: exit code, problem code, and something to do next; nothing may have changed.
fn refused(product: &Product, environment: &[(&str, &str)], words: &[&str], code: i32, problem: &str) -> String {
    let before = product.ask(&["get", "items"]);
    let said = product.say_as(environment, words);
    assert_eq!((said.code, said.out.as_str()), (code, ""), "{words:?}: {said:?}");
    assert!(said.err.contains(&format!("problem:   /problems/{problem}")), "{words:?}: {said:?}");
    assert!(said.err.contains("next step: ") && said.err.contains("data:      "), "{words:?}: {said:?}");
    let after = product.ask(&["get", "items"]);
    let records = |items: &Value| items["items"].as_array().unwrap().iter().map(|item| item["record"].clone()).collect::<Vec<_>>();
    assert_eq!(records(&before), records(&after), "{words:?} changed something");
    said.err
}

#[test]
fn bad_input_is_refused_with_a_code_and_a_next_step_and_changes_nothing() {
    let product = protected("refusals");
    refused(&product, &[], &["failover", "db8"], 3, "unknown-item");
    refused(&product, &[], &["points", "db8"], 3, "unknown-item");
    refused(&product, &[], &["why", "0193a000-0000-7000-8000-000000000000"], 3, "unknown-run");
    let told = refused(&product, &[], &["commit", "db9"], 4, "operation-not-allowed");
    assert!(told.contains("allowed:   test-failover, planned-failover, failover, resync, change-policy, hold, unprotect, resolve"), "{told}");
    refused(&product, &[], &["protect", "db9", "--from", "a", "--to", "b"], 4, "operation-not-allowed");
    refused(&product, &[], &["protect", "db1", "--from", "a", "--to", "nowhere"], 3, "unknown-site");
    refused(&product, &[], &["failover", "db9", "--point", "4000000"], 4, "no-recovery-point");
    refused(&product, &[], &["test-failover", "db9", "--point", "4000000"], 4, "no-recovery-point");
    refused(&product, &[], &["test-failover", "db9", "--point", "latest-app-consistent"], 4, "no-recovery-point");
    refused(&product, &[], &["planned-failover", "db9", "--shut-down-timeout", "2h"], 2, "invalid-request");
    for early in ["failback", "reprotect", "clean-test-failover"] {
        refused(&product, &[], &[early, "db9"], 4, "operation-not-allowed");
    }
    refused(&product, &[], &["undo", "db9", "--discard-writes"], 4, "operation-not-allowed");
    source_down(&product);
    let waiting = product.begin(&["failover", "db9", "--fence-timeout", "60s"]);
    drop(product.seen(&waiting, "fence-machine"));
    let told = refused(&product, &[], &["failover", "db9"], 4, "run-in-progress");
    assert!(told.contains(&waiting), "{told}");
    assert_eq!(product.say(&["cancel", &waiting, "--wait"]).code, 1);
    assert_eq!(product.item_state("db9"), "protected");
    let viewer = product.ask(&["token", "create", "--name", "eve", "--role", "viewer"])["token"].as_str().unwrap().to_owned();
    let ca = product.state_dir().join("pki/ca.crt");
    let server = format!("https://{}", product.listen());
    let remote = [("SWITCHBACK_SERVER", server.as_str()), ("SWITCHBACK_CA", ca.to_str().unwrap()), ("SWITCHBACK_TOKEN", viewer.as_str())];
    assert_eq!(product.say_as(&remote, &["get", "items"]).code, 0, "a viewer may look");
    refused(&product, &remote, &["failover", "db9"], 5, "forbidden");
    let stranger = [remote[0], remote[1], ("SWITCHBACK_TOKEN", "sb_0000_wrong")];
    refused(&product, &stranger, &["get", "items"], 5, "unauthenticated");
}

#[test]
fn a_second_agent_with_the_same_identity_does_not_start() {
    let mut product = Product::start("twins", &[]);
    product.host_simulated_sites(&[]);
    let mut command = std::process::Command::new(switchback_tests::place::program("switchback-agent"));
    let output = command.args(["run", "--simulated", "--state-dir"]).arg(product.dir().join("a")).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("another switchback-agent runs with the identity"), "{told}");
}

#[test]
fn a_machine_whose_disk_is_not_qcow2_is_not_protected() {
    let mut product = Product::start("raw", &[]);
    product.host_simulated_sites(&[]);
    product.world(json!({ "do": "add-machine", "site": "a", "machine": "old1", "blocks": 8, "format": "raw" }));
    let said = product.say(&["protect", "old1", "--from", "a", "--to", "b", "--wait"]);
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.err.contains("disk-not-qcow2") && said.err.contains("qemu-img convert"), "{said:?}");
    let item = product.ask(&["get", "item", "old1"]);
    assert_eq!(item["state"], "failed(protect), still unprotected");
    for site in ["a", "b"] {
        assert_eq!(product.world(json!({ "do": "inventory", "site": site }))["inventory"]["objects"], json!([]));
    }
}

#[test]
fn an_agent_that_is_not_enrolled_is_told_what_to_do() {
    let product = Product::start("stranger", &[]);
    let dir = product.dir().join("nobody");
    let run = |words: &[&str]| {
        let output = std::process::Command::new(switchback_tests::product::program("switchback-agent")).args(words).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, told) = run(&["run", "--simulated", "--state-dir", dir.to_str().unwrap()]);
    assert_eq!(code, Some(1));
    assert!(told.contains("not enrolled") && told.contains("switchback agent token --site SITE"), "{told}");
    let token = product.ask(&["agent", "token", "--site", "a"]);
    let server = format!("https://{}", product.listen());
    let enroll = |ca: &str, token: &str| {
        run(&["enroll", "--server", &server, "--ca-sha256", ca, "--token", token, "--name", "x", "--state-dir", dir.to_str().unwrap()])
    };
    let ca = token["ca_sha256"].as_str().unwrap();
    let (code, told) = enroll(ca, "sb_not_a_token");
    assert!(code == Some(1) && told.contains("enrol"), "{told}");
    let (code, _) = enroll(&"0".repeat(64), token["token"].as_str().unwrap());
    assert_eq!(code, Some(1), "a server of another CA gets no token");
    assert!(!dir.join("identity.json").exists());
    assert_eq!(enroll(ca, token["token"].as_str().unwrap()).0, Some(0));
    let (code, told) = enroll(ca, token["token"].as_str().unwrap());
    assert!(code == Some(1) && told.contains("already holds an identity"), "{told}");
}

#[test]
fn a_drill_runs_by_hand_and_by_schedule_and_what_is_missed_says_why() {
    let product = protected("drills");
    let told = product.say(&["drill", "db9", "--rto-target", "2m", "--rpo-target", "2m", "--check", "ssh:10.0.0.9:22", "--check", "guest:/bin/systemctl is-active db", "--note", "quarterly", "--wait"]);
    assert!(told.code == 0 && told.out.contains("the drill of db9 has passed") && told.out.contains("left behind  nothing"), "{told:?}");
    let told = product.say(&["drill", "db9", "--rto-target", "1ms", "--wait"]);
    assert!(told.code == 6 && told.out.contains("has NOT passed") && told.out.contains("until it served; 0.0 s were allowed"), "{told:?}");

    let create = ["schedule", "create", "nightly", "--cron", "* * * * *", "--zone", "Europe/Berlin"];
    refused(&product, &[], &[&create[..], &["drill", "db8"]].concat(), 3, "unknown-item");
    let told = refused(&product, &[], &["schedule", "create", "x", "--cron", "0 0 30 2 *", "--zone", "UTC", "drill", "db9"], 2, "invalid-request");
    assert!(told.contains("never fires: no year has such a day"), "{told}");
    let told = refused(&product, &[], &["schedule", "preview", "--cron", "@daily", "--zone", "Mars/Base"], 2, "invalid-request");
    assert!(told.contains("no time zone of the IANA database"), "{told}");
    refused(&product, &[], &["schedule", "describe", "nightly"], 3, "unknown-schedule");
    let made = product.ask(&[&create[..], &["drill", "db9", "--note", "by schedule"]].concat());
    assert_eq!((&made["workflow_id"], &made["calendar"]["zone"]), (&json!("drill:db9"), &json!("Europe/Berlin")), "{made}");
    refused(&product, &[], &[&create[..], &["drill", "db9"]].concat(), 4, "name-taken");

    let coming = product.ask(&["schedule", "preview", "nightly", "-n", "3"]);
    assert_eq!(coming["items"].as_array().unwrap().len(), 3, "{coming}");
    let run = product.ask(&["schedule", "run-now", "nightly"])["run"].as_str().unwrap().to_owned();
    assert_eq!(product.ended(&run)["requested_by"], product.ask(&["schedule", "describe", "nightly"])["created_by"]);
    let rows = |product: &Product| product.ask(&["schedule", "history", "nightly"])["items"].as_array().unwrap().clone();
    let fired = wait_until("a drill by the clock", || rows(&product).into_iter().find(|row| row["kind"] == "on_time"));
    let view = product.ended(fired["run"].as_str().unwrap());
    assert_eq!((&view["state"], &view["requested_by"], &view["workflow"]), (&json!("completed"), &json!("schedule:nightly"), &json!("drill")));

    drop(product.ask(&["schedule", "pause", "nightly", "--reason", "the storage is being moved"]));
    let told = refused(&product, &[], &["schedule", "pause", "nightly", "--reason", "again"], 4, "not-now");
    assert!(told.contains("schedule nightly is paused by") && told.contains("(the storage is being moved)"), "{told}");
    let missed = wait_until("a time in the pause", || rows(&product).into_iter().find(|row| row["kind"] == "paused"));
    assert!(missed["cause"].as_str().unwrap().ends_with("the storage is being moved") && missed["started"] == false, "{missed}");
    drop(product.ask(&["schedule", "resume", "nightly"]));
    drop(product.ask(&["schedule", "remove", "nightly"]));
    assert!(rows(&product).len() >= 3, "what it fired stays");
    assert_eq!(product.ask(&["verify"])["differences"], json!([]));
}

/// What is not well with the item, a line each.
fn not_well(product: &Product) -> Vec<String> {
    let told = product.say(&["check", "db9", "-o", "json"]);
    let view: Value = serde_json::from_str(&told.out).unwrap_or_else(|error| panic!("{error}: {told:?}"));
    let findings = view["findings"].as_array().unwrap().iter().filter(|finding| finding["severity"] != "ok");
    let bad: Vec<String> = findings.map(|f| format!("{} {}: {}", f["severity"].as_str().unwrap(), f["check"].as_str().unwrap(), f["what"].as_str().unwrap())).collect();
    let worse = bad.iter().any(|line| !line.starts_with("unknown"));
    assert_eq!(told.code, if worse { 6 } else { 0 }, "{told:?}");
    bad
}

#[test]
fn a_look_says_whether_a_recovery_would_work_now_and_a_drill_counts_until_something_changes() {
    let product = protected("readiness");
    // Until the agents have said what their hosts have.
    let only = |expected: &str| wait_until("nothing else to be wrong", || matches!(not_well(&product).as_slice(), [one] if one.contains(expected)).then_some(()));
    only("no drill of db9 has passed");
    let told = product.say(&["check", "db9"]);
    assert!(told.code == 6 && told.out.starts_with("item db9: warning, not verified; since ") && told.out.contains("→ switchback drill db9"), "{told:?}");
    assert_eq!(product.ask(&["drill", "db9", "--wait"])["output"]["passed"], true);
    assert_eq!(not_well(&product), [""; 0]);
    let told = product.say(&["check", "db9", "--all"]);
    assert!(told.code == 0 && told.out.contains("item db9: ok, verified") && told.out.contains("1 machine takes 1.0 GiB of memory at b, where 64.0 GiB are free"), "{told:?}");
    let listed = product.ask(&["check"]);
    assert_eq!((&listed["items"][0]["subject"], &listed["items"][0]["verified"]), (&json!("item:db9"), &json!(true)), "{listed}");

    drop(product.ask(&["unprotect", "db9", "--wait"]));
    let changed: Vec<&str> = PROTECT.iter().map(|word| if *word == "1s" { "2s" } else { *word }).collect();
    drop(product.ask(&changed));
    only("something has changed: interval of points was 1 s, is 2 s");
    assert_eq!(product.ask(&["drill", "db9", "--wait"])["output"]["passed"], true);
    assert_eq!(not_well(&product), [""; 0]);

    product.world(json!({ "do": "site-down", "site": "b", "down": true }));
    let found = wait_until("the dead target to be found", || Some(not_well(&product)).filter(|found| found.iter().any(|line| line.starts_with("warning rpo") || line.contains("replication"))));
    assert!(found.iter().all(|line| !line.starts_with("critical verified")), "{found:?}");
    refused(&product, &[], &["check", "db8"], 3, "unknown-item");
}

#[test]
fn an_agent_says_what_it_can_do_for_plans_and_what_is_wrong_with_its_configuration() {
    use std::os::unix::fs::PermissionsExt;
    let dir = switchback_tests::place::target().join(format!("tmp/actions-check-{}", std::process::id()));
    std::fs::create_dir_all(dir.join("secrets")).unwrap();
    let put = |name: &str, mode: u32, text: &str| {
        std::fs::write(dir.join(name), text).unwrap();
        std::fs::set_permissions(dir.join(name), std::fs::Permissions::from_mode(mode)).unwrap();
    };
    let check = |words: &[&str]| {
        let mut command = std::process::Command::new(switchback_tests::product::program("switchback-agent"));
        let output = command.args(["actions", "check", "--actions"]).arg(&dir).args(words).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    put("secrets/ddns", 0o600, "x");
    put("actions.yaml", 0o644, "version: 1\ncommands: [{ name: it, program: /bin/true, user: root, allowed: ['[a-z]+'] }]\n");
    let (code, told) = check(&[]);
    assert!(code == Some(0) && told.contains("command     it: /bin/true as root; takes [a-z]+") && told.contains("secrets     ddns"), "{told}");
    put("secrets/ddns", 0o640, "x");
    let (code, told) = check(&[]);
    assert!(code == Some(6) && told.contains("wrong") && told.contains("chmod 600"), "{told}");
    let (code, told) = check(&["-o", "json"]);
    let seen: Value = serde_json::from_str(&told).unwrap();
    assert_eq!((code, seen["secrets"].as_array().unwrap().len(), seen["faults"].as_array().unwrap().len()), (Some(6), 0, 1));
    std::fs::remove_dir_all(dir).unwrap();
}

#[test]
fn points_are_held_policies_changed_sides_compared_and_records_settled() {
    let product = protected("careful");
    let refused_plainly = |words: &[&str], code: i32, problem: &str| refused(&product, &[], words, code, problem);
    refused_plainly(&["hold", "db9", "--point", "1", "--reason", " "], 2, "invalid-request");
    assert_eq!(product.ask(&["hold", "db9", "--point", "1", "--reason", "a court asks for it", "--wait"])["state"], "completed");
    let item = product.ask(&["get", "item", "db9"]);
    assert_eq!((&item["record"]["hold"]["reason"], &item["protected"]), (&json!("a court asks for it"), &json!(true)));
    let told = refused_plainly(&["unprotect", "db9"], 4, "operation-not-allowed");
    assert!(told.contains("point 1 is held by"), "{told}");

    refused_plainly(&["change-policy", "db9", "--retention-points", "99"], 2, "invalid-request");
    refused_plainly(&["change-policy", "db9", "--interval", "1s"], 4, "not-now");
    assert_eq!(product.ask(&["change-policy", "db9", "--interval", "2s", "--wait"])["state"], "completed");
    let policy = product.ask(&["get", "item", "db9"])["record"]["policy"].clone();
    assert_eq!((&policy["interval_s"], &policy["retention_points"]), (&json!(2), &json!(12)));
    assert_eq!(product.ask(&["resync", "db9", "--wait"])["state"], "completed");
    assert_eq!(product.ask(&["resolve", "db9", "--wait"])["state"], "completed");
    assert_eq!(product.item_state("db9"), "protected");

    product.world(json!({ "do": "write", "site": "a", "machine": "db9", "block": 1, "content": 11 }));
    let run = product.begin(&["failover", "db9", "--point", "latest", "--shut-down"]);
    assert_eq!(product.ended(&run)["state"], "completed");
    let read = |site: &str, block: u64| product.world(json!({ "do": "read", "site": site, "machine": "db9", "block": block }))["content"].clone();
    assert_eq!(read("b", 1), 11, "nothing was lost");
    let item = product.ask(&["get", "item", "db9"]);
    assert_eq!((&item["protected"], item["change_until"].is_string()), (&json!(false), true));
    refused_plainly(&["commit", "db9"], 4, "operation-not-allowed");
    assert_eq!(product.ask(&["release", "db9", "--reason", "the court has it", "--wait"])["state"], "completed");
    for words in [&["commit", "db9", "--wait"], &["reprotect", "db9", "--wait"]] {
        assert_eq!(product.ask(words)["state"], "completed");
    }
    // Asked at once: the report of the first point may still be on its way, and is waited for.
    let told = refused_plainly(&["failback", "db9", "--point", "latest-processed"], 4, "confirmation-needed");
    assert!(told.contains("would go home as it was at point"), "{told}");
    let oldest = product.points("db9").into_keys().next().unwrap().to_string();
    let told = refused_plainly(&["failback", "db9", "--point", &oldest], 4, "confirmation-needed");
    assert!(told.contains("would go home as it was at point") && told.contains("--accept-loss"), "{told}");
    assert_eq!(product.ask(&["failback", "db9", "--wait"])["state"], "completed");
    assert_eq!(read("a", 1), 11);
    assert_eq!(product.world(json!({ "do": "ledger" }))["applied_more_than_once"], json!([]));
    assert_eq!(product.ask(&["verify"])["differences"], json!([]));
}

#[test]
fn simulated_sites_take_any_profile_and_its_rules_hold() {
    let mut product = Product::start("profile", &[]);
    product.host_simulated_sites(&[]);
    drop(product.ask(&[&PROTECT[..], &["--profile", "vmware"]].concat()));
    let item = product.ask(&["get", "item", "db9"]);
    let allowed = item["allowed_operations"].to_string();
    assert!(allowed.contains("\"failover\"") && !allowed.contains("planned-failover"), "{allowed}");
    let told = refused(&product, &[], &["planned-failover", "db9"], 4, "operation-not-allowed");
    assert!(told.contains("follows the rules of vmware"), "{told}");
    let said = product.say(&["profile", "vmware"]);
    assert!(said.code == 0 && said.out.contains("no adapter does") && said.out.contains("for 72 hours"), "{said:?}");
}

#[test]
fn a_copy_of_a_test_that_nobody_removes_is_removed_when_its_time_is_over() {
    let product = protected("reaper");
    refused(&product, &[], &["test-failover", "db9", "--ttl", "1s"], 2, "invalid-request");
    assert_eq!(product.ask(&["test-failover", "db9", "--ttl", "10s", "--wait"])["state"], "completed");
    let state = |product: &Product| product.ask(&["get", "item", "db9"])["record"]["state"]["test_failover"].clone();
    assert_eq!(state(&product), "ready");
    let gone = || (state(&product) == "none").then_some(());
    switchback_tests::product::wait_until_within(std::time::Duration::from_secs(60), "the copy is removed", gone);
    let runs = product.ask(&["runs", "--item", "db9"]);
    let cleaner = runs["items"].as_array().unwrap().iter().find(|run| run["workflow"] == "clean-test-failover").unwrap();
    assert_eq!(cleaner["requested_by"], "switchback (a test failover stayed as long as it was to)");
}
