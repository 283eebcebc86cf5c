//! The way home on real machines: there and back byte for byte, a dead site that returns, rehearsals that nobody notices.
//! Needs root and QEMU; `SWITCHBACK_REQUIRE_KVM=1` makes their absence a failure.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm, reason = "a test panics where its sentence does not hold")]

use std::{
    collections::BTreeSet,
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

use serde_json::json;
use switchback_tests::{
    disks::{compared, differing_blocks, newest_image, raw_copy},
    drive::{DATA_PORT, done, item, next_whole_point, next_whole_point_at, newest_at, protect},
    lab::{Lab, Ledger, kvm_or_skip},
    place::{Running, Said, program, signal, wait_until},
    product::Product,
};

const IP: &str = "10.1.0.19";
const MACHINE: &str = "db9";

fn agents(lab: &Lab, product: &mut Product) {
    for site in ["sitea", "siteb"] {
        lab.agent(product, &format!("agent-{site}"), site, DATA_PORT, &[]);
    }
}

/// The disk that a machine of ours has at a site.
fn our_disk(lab: &Lab, site: &str) -> PathBuf {
    newest_image(&lab.storage(site).join(MACHINE), "run.", ".vda.qcow2")
}

fn point_disk(lab: &Lab, site: &str, point: u64) -> PathBuf {
    newest_image(&lab.storage(site).join(MACHINE), &format!("p{point}-"), ".vda.qcow2")
}

fn sent(product: &Product, site: &str) -> u64 {
    let answer = product.ask(&["points", MACHINE]);
    let listed = answer["items"].as_array().into_iter().flatten();
    listed.filter(|listed| listed["site"] == site).filter_map(|listed| listed["point"]["size_bytes"].as_u64()).sum()
}

fn answers<'a>(lab: &'a Lab, site: &str) -> Ledger<'a> {
    let guest = lab.ledger(site, IP);
    wait_until(&format!("the machine answers at {site}"), || guest.status());
    guest
}

/// From `committed` at site B to `protected` at site A as at the start. Nothing may be lost, and disks must be equal.
fn home(lab: &Lab, product: &Product) {
    let away = answers(lab, "siteb");
    away.append(17);
    let old = lab.dir().join("old.raw");
    raw_copy(&lab.images("sitea").join(format!("{MACHINE}.qcow2")), &old);
    done(product, &["reprotect", MACHINE]);
    away.append(5);
    next_whole_point_at(product, MACHINE, "sitea");
    let written = away.append(3);
    let boots = away.status().unwrap().boots;
    let back = done(product, &["failback", MACHINE, "--shut-down-timeout", "60s"]);
    assert_eq!((back["serves"].clone(), back["fenced"].clone()), (json!(true), json!(true)), "{back}");
    let point = back["point"].as_u64().unwrap();
    let left = our_disk(lab, "siteb");
    assert_eq!(compared(&left, &point_disk(lab, "sitea", point)), "Images are identical.");
    let now = lab.dir().join("now.raw");
    raw_copy(&left, &now);
    let changed = differing_blocks(&old, &now);
    println!("changed blocks: {changed} ({} KiB); sent back: {} KiB", changed * 64, sent(product, "sitea") / 1024);
    let at_home = answers(lab, "sitea");
    assert_eq!(at_home.verify(), (written, 0), "every record is at home");
    assert_eq!(at_home.status().unwrap().boots, boots + 1);
    done(product, &["commit", MACHINE]);
    assert!(!lab.virsh("siteb", &["list", "--all", "--name"]).contains(MACHINE), "the machine at site B is gone");
    done(product, &["reprotect", MACHINE]);
    let view = item(product, MACHINE);
    assert_eq!((&view["state"], &view["record"]["state"]["direction"], &view["record"]["state"]["active"]), (&json!("protected"), &json!("forward"), &json!("primary")));
    let written = at_home.append(9);
    let point = next_whole_point(product, MACHINE);
    assert_eq!(at_home.verify(), (written, 0));
    assert!(point > 0);
    assert_eq!(product.ask(&["verify"])["differences"], json!([]));
}

#[test]
fn a_machine_that_moved_away_by_plan_comes_home_byte_for_byte() {
    if !kvm_or_skip("a_machine_that_moved_away_by_plan_comes_home_byte_for_byte") {
        return;
    }
    let lab = Lab::up("planned");
    let mut product = lab.product("planned");
    agents(&lab, &mut product);
    let source = lab.guest("sitea", MACHINE, IP, 0);
    protect(&product, MACHINE, IP, "2s");
    next_whole_point(&product, MACHINE);
    let written = source.append(41);
    let moved = done(&product, &["planned-failover", MACHINE, "--shut-down-timeout", "60s"]);
    assert_eq!(moved["serves"], true, "{moved}");
    let left = lab.images("sitea").join(format!("{MACHINE}.qcow2"));
    assert_eq!(compared(&left, &point_disk(&lab, "siteb", moved["point"].as_u64().unwrap())), "Images are identical.");
    let away = answers(&lab, "siteb");
    assert_eq!(away.verify(), (written, 0), "nothing is lost by a planned failover");
    done(&product, &["commit", MACHINE]);
    away.write_noise(8, 7);
    home(&lab, &product);
}

#[test]
fn a_machine_whose_process_was_killed_comes_home_byte_for_byte_from_another_point_than_the_first() {
    if !kvm_or_skip("a_machine_whose_process_was_killed_comes_home_byte_for_byte_from_another_point_than_the_first") {
        return;
    }
    let lab = Lab::up("killed");
    let mut product = lab.product("killed");
    agents(&lab, &mut product);
    let source = lab.guest("sitea", MACHINE, IP, 0);
    protect(&product, MACHINE, IP, "2s");
    let kept = source.append(30);
    let earlier = next_whole_point(&product, MACHINE);
    source.append(12);
    source.write_noise(2, 3);
    next_whole_point(&product, MACHINE);
    source.append(5);
    lab.kill_guest("sitea", MACHINE);
    let failed_over = done(&product, &["failover", MACHINE]);
    assert_eq!(failed_over["fenced"], true, "its agent proves that it is off: {failed_over}");
    let away = answers(&lab, "siteb");
    assert!(away.status().unwrap().found > kept);
    away.append(4);
    let earlier = earlier.to_string();
    let refused = product.say(&["change-point", MACHINE, "--point", &earlier]);
    assert!(refused.code == 4 && refused.err.contains("discards everything it has written"), "{refused:?}");
    done(&product, &["change-point", MACHINE, "--point", &earlier, "--discard-writes"]);
    assert_eq!(answers(&lab, "siteb").verify(), (kept, 0), "exactly the records before point {earlier}");
    done(&product, &["commit", MACHINE]);
    home(&lab, &product);
}

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
        product.points(MACHINE).values().any(|point| point["consistency"] == "app").then_some(())
    });
    assert_eq!(source.verify().1, 0);
}

/// Away by plan, and accepted there.
fn moved_away(lab: &Lab, product: &Product, source: &Ledger<'_>) -> u64 {
    protect(product, MACHINE, IP, "2s");
    let written = source.append(33);
    assert_eq!(done(product, &["planned-failover", MACHINE, "--shut-down-timeout", "60s"])["serves"], true);
    done(product, &["commit", MACHINE]);
    assert_eq!(answers(lab, "siteb").verify(), (written, 0));
    written
}

#[test]
fn a_machine_that_was_not_reprotected_comes_home_by_a_full_copy_while_it_is_off() {
    if !kvm_or_skip("a_machine_that_was_not_reprotected_comes_home_by_a_full_copy_while_it_is_off") {
        return;
    }
    let lab = Lab::up("full");
    let mut product = lab.product("full");
    agents(&lab, &mut product);
    let source = lab.guest("sitea", MACHINE, IP, 0);
    moved_away(&lab, &product, &source);
    let written = answers(&lab, "siteb").append(21);
    let back = done(&product, &["failback", MACHINE, "--sync", "during-failover", "--shut-down-timeout", "60s"]);
    assert_eq!((back["serves"].clone(), back["fenced"].clone()), (json!(true), json!(true)), "{back}");
    assert_eq!(compared(&our_disk(&lab, "siteb"), &point_disk(&lab, "sitea", back["point"].as_u64().unwrap())), "Images are identical.");
    let at_home = answers(&lab, "sitea");
    assert_eq!(at_home.verify(), (written, 0));
    done(&product, &["commit", MACHINE]);
    done(&product, &["reprotect", MACHINE]);
    at_home.append(3);
    next_whole_point(&product, MACHINE);
    assert_eq!(product.item_state(MACHINE), "protected");
    assert!(lab.images("sitea").join(format!("{MACHINE}.qcow2")).exists(), "a file that was there before us is not removed");
    assert_eq!(product.ask(&["verify"])["differences"], json!([]));
}

#[test]
fn a_machine_whose_old_one_was_deleted_comes_home_to_a_new_one() {
    if !kvm_or_skip("a_machine_whose_old_one_was_deleted_comes_home_to_a_new_one") {
        return;
    }
    let lab = Lab::up("alternate");
    let mut product = lab.product("alternate");
    agents(&lab, &mut product);
    let source = lab.guest("sitea", MACHINE, IP, 0);
    moved_away(&lab, &product, &source);
    drop(lab.virsh("sitea", &["undefine", "--checkpoints-metadata", MACHINE]));
    std::fs::remove_file(lab.images("sitea").join(format!("{MACHINE}.qcow2"))).unwrap();
    let run = product.begin(&["reprotect", MACHINE]);
    let view = product.ended(&run);
    assert_eq!((&view["state"], &view["problem"]["code"]), (&json!("failed"), &json!("no-old-machine")), "{view}");
    assert!(view["problem"]["message"].as_str().unwrap().contains("--location alternate"), "{view}");
    assert_eq!(product.item_state(MACHINE), "failed(reprotect), still committed");
    done(&product, &["reprotect", MACHINE, "--location", "alternate"]);
    let written = answers(&lab, "siteb").append(8);
    assert_eq!(done(&product, &["failback", MACHINE, "--shut-down-timeout", "60s"])["serves"], true);
    assert_eq!(answers(&lab, "sitea").verify(), (written, 0));
    done(&product, &["commit", MACHINE]);
    done(&product, &["reprotect", MACHINE]);
    next_whole_point(&product, MACHINE);
    done(&product, &["unprotect", MACHINE]);
    assert!(lab.runs("sitea", MACHINE), "unprotecting does not touch the machine that runs");
    let left: Vec<PathBuf> = std::fs::read_dir(lab.storage("siteb").join(MACHINE)).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    assert!(left.iter().all(|path| !path.to_string_lossy().ends_with(".qcow2")), "nothing of the item's disks is left at site B: {left:?}");
    assert_eq!(product.ask(&["verify"])["differences"], json!([]));
}

#[test]
fn a_failover_that_is_undone_gives_the_source_back_as_it_was() {
    if !kvm_or_skip("a_failover_that_is_undone_gives_the_source_back_as_it_was") {
        return;
    }
    let lab = Lab::up("undone");
    let mut product = lab.product("undone");
    agents(&lab, &mut product);
    let source = lab.guest("sitea", MACHINE, IP, 0);
    protect(&product, MACHINE, IP, "2s");
    let written = source.append(20);
    next_whole_point(&product, MACHINE);
    done(&product, &["failover", MACHINE]);
    answers(&lab, "siteb").append(50);
    let refused = product.say(&["undo", MACHINE]);
    assert!(refused.code == 4 && refused.err.contains("confirmation-needed"), "{refused:?}");
    let run = product.begin(&["undo", MACHINE, "--discard-writes"]);
    assert_eq!(product.ended(&run)["state"], "completed");
    let said = product.say(&["history", &run]).out;
    assert!(said.contains("writes discarded") && said.contains("blocks "), "{said}");
    let again = answers(&lab, "sitea");
    assert_eq!(again.verify(), (written, 0), "what was written at site B is gone, what was at site A is there");
    assert!(!lab.runs("siteb", MACHINE));
    again.append(6);
    next_whole_point(&product, MACHINE);
    assert_eq!(product.item_state(MACHINE), "protected");
    assert_eq!(product.ask(&["verify"])["differences"], json!([]));
}

#[test]
fn a_dead_site_that_returns_with_autostart_runs_no_second_machine_and_takes_the_item_back() {
    if !kvm_or_skip("a_dead_site_that_returns_with_autostart_runs_no_second_machine_and_takes_the_item_back") {
        return;
    }
    let lab = Lab::up("returns");
    let mut product = lab.product("returns");
    agents(&lab, &mut product);
    let source = lab.guest("sitea", MACHINE, IP, 0);
    drop(lab.virsh("sitea", &["autostart", MACHINE]));
    protect(&product, MACHINE, IP, "2s");
    source.append(20);
    next_whole_point(&product, MACHINE);
    // The whole site at once.
    product.kill_agent("agent-sitea");
    lab.kill_guest("sitea", MACHINE);
    lab.kill_libvirtd("sitea");
    lab.cut("sitea");
    let accept = ["failover", MACHINE, "--accept-unfenced", "--reason", "site A burns", "--fence-timeout", "3s"];
    let run = product.begin(&accept);
    assert_eq!(product.ended(&run)["state"], "completed");
    let unfenced = product.events(&run).iter().map(|event| event["body"]["command"]["fact"]["fact"].clone()).find(|fact| fact["fact"] == "unfenced_accepted");
    let unfenced = unfenced.expect("the history says that it was accepted");
    assert_eq!((unfenced["reason"].clone(), unfenced["by"].as_str().unwrap().is_empty()), (json!("site A burns"), false), "{unfenced}");
    answers(&lab, "siteb").append(8);
    done(&product, &["commit", MACHINE]);
    assert_eq!(item(&product, MACHINE)["old_machine"], "unknown", "nobody has heard of site A since");
    // Its host boots.
    lab.heal("sitea");
    lab.restart_libvirtd("sitea", true);
    lab.agent_again(&mut product, "agent-sitea", "sitea", DATA_PORT, &[("SWITCHBACK_BOOT_ID", "the-next-boot")]);
    wait_until("the item says that its old machine is quarantined", || (item(&product, MACHINE)["old_machine"] == "quarantined").then_some(()));
    assert!(!lab.runs("sitea", MACHINE), "the old machine does not run");
    assert!(lab.virsh("sitea", &["dominfo", MACHINE]).lines().any(|line| line.starts_with("Autostart") && line.contains("disable")));
    assert_eq!(item(&product, MACHINE)["alarms"], json!([]));
    home(&lab, &product);
}

/// Frames of a machine on a device, recorded until it is dropped.
struct Capture {
    file: PathBuf,
    running: Running,
}

impl Capture {
    fn of(lab: &Lab, site: &str, device: &str, mac: &str) -> Self {
        let file = lab.dir().join(format!("{site}-{device}.pcap"));
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &lab.netns(site), "tcpdump", "-Z", "root", "-U", "-i", device, "-w"]).arg(&file).args(["ether", "host", mac]);
        let log = lab.dir().join(format!("{site}-{device}.log"));
        let running = Running::start(command, &log);
        wait_until("tcpdump listens", || running.log().contains("listening on").then_some(()));
        Self { file, running }
    }

    fn frames(mut self) -> u64 {
        self.running.end();
        let said = Said::by(Command::new("tcpdump").args(["-n", "-r"]).arg(&self.file));
        said.out.lines().count() as u64
    }
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
    let mac = xml.split("<mac address='").nth(1).and_then(|rest| rest.split('\'').next()).expect("a MAC address").to_owned();
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
