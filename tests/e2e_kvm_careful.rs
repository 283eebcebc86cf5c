//! The careful forms on real machines: rehearsals that nobody notices, guests that do not shut down, guests that are frozen, a first look.
//! Needs root and QEMU; `SWITCHBACK_REQUIRE_KVM=1` makes their absence a failure.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm, reason = "a test panics where its sentence does not hold")]

use std::{
    collections::BTreeSet,
    process::Command,
    time::{Duration, Instant},
};

use serde_json::json;
use switchback_tests::{
    capture::Capture,
    drive::{DATA_PORT, agents, done, item, newest_at, next_whole_point, protect},
    lab::{Lab, kvm_or_skip},
    place::{Said, program, signal, wait_until},
};

const IP: &str = "10.1.0.19";
const MACHINE: &str = "db9";

#[test]
fn a_guest_that_ignores_shutdown_stops_a_planned_failover_and_nothing_has_changed() {
    if !kvm_or_skip("a_guest_that_ignores_shutdown_stops_a_planned_failover_and_nothing_has_changed") {
        return;
    }
    let lab = Lab::up("stubborn");
    let mut product = lab.product("stubborn");
    agents(&lab, &mut product);
    let source = lab.guest_with("sitea", MACHINE, IP, 100, "down=never");
    drop(lab.virsh("sitea", &["autostart", MACHINE]));
    protect(&product, MACHINE, IP, "2s");
    next_whole_point(&product, MACHINE);
    let (before, boots, process) = (item(&product, MACHINE), source.status().unwrap().boots, lab.qemu_pid("sitea", MACHINE));
    let run = product.begin(&["planned-failover", MACHINE, "--shut-down-timeout", "6s"]);
    let view = product.ended(&run);
    assert_eq!((&view["state"], &view["problem"]["code"]), (&json!("failed"), &json!("still-running")), "{view}");
    let after = item(&product, MACHINE);
    assert_eq!(after["state"], "failed(planned-failover), still protected");
    let (mut allowed, mut of_protected) = (after["allowed_operations"].clone(), before["allowed_operations"].clone());
    for list in [&mut allowed, &mut of_protected] {
        list.as_array_mut().unwrap().sort_by_key(ToString::to_string);
    }
    assert_eq!(allowed, of_protected, "the operations of protected");
    next_whole_point(&product, MACHINE);
    assert_eq!((source.status().unwrap().boots, lab.qemu_pid("sitea", MACHINE)), (boots, process), "the machine goes on");
    assert!(!lab.runs("siteb", MACHINE));
    // What is left is the way that does not ask the guest.
    let failed_over = done(&product, &["failover", MACHINE]);
    assert_eq!((failed_over["fenced"].clone(), failed_over["serves"].clone()), (json!(true), json!(true)), "{failed_over}");
    assert_eq!(product.ask(&["verify"])["differences"], json!([]));
}

#[test]
fn a_guest_that_is_frozen_when_worker_and_server_are_killed_is_thawed() {
    if !kvm_or_skip("a_guest_that_is_frozen_when_worker_and_server_are_killed_is_thawed") {
        return;
    }
    let lab = Lab::up("frozen");
    let mut product = lab.product("frozen");
    lab.agent(&mut product, "agent-siteb", "siteb", DATA_PORT, &[]);
    lab.agent(&mut product, "agent-sitea", "sitea", DATA_PORT, &[("SWITCHBACK_PAUSE_BEFORE", "thaw")]);
    let source = lab.guest("sitea", MACHINE, IP, 0);
    let app = ["--app-consistent-every", "2s"];
    let from = ["protect", MACHINE, "--from", "sitea", "--to", "siteb", "--interval", "2s"];
    drop(product.begin(&[&from[..], &app].concat()));
    wait_until("the agent is stopped between freeze and thaw", || product.agent("agent-sitea").is_stopped().then_some(()));
    let frozen = |lab: &Lab| lab.virsh("sitea", &["qemu-agent-command", MACHINE, r#"{"execute":"guest-fsfreeze-status"}"#]).contains("frozen");
    assert!(frozen(&lab), "the guest is frozen");
    for name in ["worker-1", "worker-2", "server"] {
        signal(product.pid(name).unwrap(), "KILL");
    }
    // The agent too: whoever comes after it thaws first.
    product.kill_agent("agent-sitea");
    let killed = Instant::now();
    let _successor = lab.start_agent("agent-sitea", "sitea", DATA_PORT);
    wait_until("the guest is thawed", || (!frozen(&lab)).then_some(()));
    assert!(killed.elapsed() < Duration::from_secs(10), "thawed after {:?}", killed.elapsed());
    source.append(5);
    wait_until("an app-consistent point", || {
        // The server that was killed may still be on its way back.
        let said = product.say(&["-o", "json", "points", MACHINE]);
        let points = (said.code == 0).then(|| said.json()["items"].clone())?;
        points.as_array()?.iter().any(|listed| listed["point"]["consistency"] == "app").then_some(())
    });
    assert_eq!(source.verify().1, 0);
}

fn links(lab: &Lab, site: &str) -> BTreeSet<String> {
    let said = Said::by(Command::new("ip").args(["-n", &lab.netns(site), "-o", "link", "show"]));
    said.out.lines().filter_map(|line| line.split(": ").nth(1)).map(|name| name.split('@').next().unwrap_or(name).to_owned()).collect()
}

fn networks(lab: &Lab, site: &str) -> BTreeSet<String> {
    lab.virsh(site, &["net-list", "--all", "--name"]).lines().map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect()
}

/// Everything at a site that a test failover could leave behind.
fn traces(lab: &Lab, site: &str) -> (BTreeSet<String>, BTreeSet<String>, Vec<String>, bool) {
    let machines = lab.virsh(site, &["list", "--all", "--name"]);
    let machines = machines.lines().map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect();
    let test_files = std::fs::read_dir(lab.storage(site).join(MACHINE).join("test")).is_ok_and(|mut entries| entries.next().is_some());
    (links(lab, site), networks(lab, site), machines, test_files)
}

#[test]
fn a_test_failover_with_productions_address_is_seen_by_nobody_and_leaves_nothing() {
    if !kvm_or_skip("a_test_failover_with_productions_address_is_seen_by_nobody_and_leaves_nothing") {
        return;
    }
    let lab = Lab::up("rehearsal");
    let mut product = lab.product("rehearsal");
    agents(&lab, &mut product);
    let source = lab.guest("sitea", MACHINE, IP, 100);
    protect(&product, MACHINE, IP, "2s");
    next_whole_point(&product, MACHINE);
    let xml = lab.virsh("sitea", &["dumpxml", MACHINE]);
    let mac = [xml.split("<mac address='").nth(1).and_then(|rest| rest.split('\'').next()).expect("a MAC address").to_owned()];
    let before = traces(&lab, "siteb");
    let (at_b, line_b, line_a) = (Capture::of(&lab, "siteb", "prod", &mac), Capture::of(&lab, "siteb", "wan0", &mac), Capture::of(&lab, "sitea", "wan0", &mac));
    let control = Capture::of(&lab, "sitea", "prod", &mac);
    let boots = source.status().unwrap().boots;
    let tested = done(&product, &["test-failover", MACHINE]);
    assert_eq!(tested["serves"], true, "{tested}");
    assert!(tested["isolation"].as_str().unwrap().len() > 20, "{tested}");
    assert_ne!(traces(&lab, "siteb"), before, "the copy is there");
    let newest = newest_at(&product, MACHINE, "siteb");
    wait_until("replication goes on beside the copy", || (newest_at(&product, MACHINE, "siteb") > newest).then_some(()));
    done(&product, &["clean-test-failover", MACHINE]);
    assert_eq!(traces(&lab, "siteb"), before, "after is before");
    assert_eq!((at_b.frames(), line_b.frames(), line_a.frames()), (0, 0, 0), "frames of the copy on production");
    assert!(control.frames() > 0, "the capture works: production itself was seen at home");
    assert_eq!((source.verify().1, source.status().unwrap().boots), (0, boots), "production did not notice");

    // The agent is killed in the middle; its successor takes the test up, and clean-up leaves nothing either.
    let run = product.begin(&["test-failover", MACHINE]);
    drop(product.seen(&run, "start-test"));
    product.kill_agent("agent-siteb");
    lab.agent_again(&mut product, "agent-siteb", "siteb", DATA_PORT, &[]);
    let view = product.ended(&run);
    assert_eq!(view["state"], "completed", "{view}");
    done(&product, &["clean-test-failover", MACHINE]);
    assert_eq!(traces(&lab, "siteb"), before, "after the kill too");
    assert_eq!(product.item_state(MACHINE), "protected");
    assert_eq!(product.ask(&["verify"])["differences"], json!([]));
}

/// What the first look says of a host, with what is the lab's own taken out.
fn first_look(lab: &Lab, site: &str) -> (i32, String) {
    let uri = lab.uri_inside(site);
    let mut command = lab.place(site).command(&program("switchback-agent"));
    let said = Said::by(command.args(["check", &uri]));
    assert_eq!(said.err, "");
    (said.code, said.out.replace(&lab.root(site).display().to_string(), "SITE").replace(&uri, "URI"))
}

#[test]
fn the_first_look_at_a_host_says_which_of_its_machines_can_be_protected() {
    if !kvm_or_skip("the_first_look_at_a_host_says_which_of_its_machines_can_be_protected") {
        return;
    }
    let lab = Lab::up("look");
    drop(lab.guest("sitea", MACHINE, IP, 0));
    drop(lab.virsh("sitea", &["destroy", MACHINE]));
    let raw = lab.virsh("sitea", &["dumpxml", MACHINE]).replace("type='qcow2'", "type='raw'").replace(&format!("<name>{MACHINE}"), "<name>old1");
    let raw = raw.lines().filter(|line| !line.contains("<uuid>")).collect::<Vec<_>>().join("\n");
    let definition = lab.dir().join("old1.xml");
    std::fs::write(&definition, raw).unwrap();
    drop(lab.virsh("sitea", &["define", definition.to_str().unwrap()]));
    assert_eq!(first_look(&lab, "sitea"), (4, include_str!("golden/check-sitea.txt").to_owned()));
    assert_eq!(first_look(&lab, "siteb"), (0, "0 of 0 machines at URI can be protected. Nothing was changed.\n".to_owned()));
    let said = Said::by(Command::new(program("switchback-agent")).args(["check", "test:///default"]));
    assert_eq!((said.code, said.out.as_str()), (4, include_str!("golden/check-test-driver.txt")));
    let said = Said::by(Command::new(program("switchback-agent")).args(["check", "test:///default", "-o", "json"]));
    assert_eq!(said.json()["machines"][0]["obstacles"][0]["code"], "not-qemu");
}
