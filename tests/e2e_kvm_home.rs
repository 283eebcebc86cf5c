//! The way home on real machines: there and back byte for byte, other ways back, a dead site that returns.
//! Needs root and QEMU; `SWITCHBACK_REQUIRE_KVM=1` makes their absence a failure.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm, reason = "a test panics where its sentence does not hold")]

use std::path::PathBuf;

use serde_json::json;
use switchback_tests::{
    disks::{compared, differing_blocks, newest_image, raw_copy},
    drive::{DATA_PORT, agents, done, item, next_whole_point, next_whole_point_at, protect},
    lab::{Lab, Ledger, kvm_or_skip},
    place::wait_until,
    product::Product,
};

const IP: &str = "10.1.0.19";
const MACHINE: &str = "db9";

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

fn autostart(lab: &Lab, site: &str) -> bool {
    lab.virsh(site, &["dominfo", MACHINE]).lines().any(|line| line.starts_with("Autostart") && line.contains("enable"))
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

fn points_at(product: &Product, site: &str) -> usize {
    let answer = product.ask(&["points", MACHINE]);
    let listed = answer["items"].as_array().into_iter().flatten();
    listed.filter(|listed| listed["site"] == site && listed["point"]["withdrawn"] != true).count()
}

#[test]
fn the_longest_chain_that_a_policy_allows_still_starts_on_both_sides() {
    if !kvm_or_skip("the_longest_chain_that_a_policy_allows_still_starts_on_both_sides") {
        return;
    }
    let lab = Lab::up("longest");
    let mut product = lab.product("longest");
    agents(&lab, &mut product);
    let source = lab.guest("sitea", MACHINE, IP, 0);
    assert_eq!(product.say(&["protect", MACHINE, "--from", "sitea", "--to", "siteb", "--retention-points", "17"]).code, 2);
    protect(&product, MACHINE, IP, "1s");
    let full = |site: &str| wait_until(&format!("sixteen points at {site}"), || (points_at(&product, site) >= 16).then_some(()));
    full("siteb");
    assert_eq!(done(&product, &["test-failover", MACHINE])["serves"], true, "from the newest of sixteen");
    done(&product, &["clean-test-failover", MACHINE]);
    let written = source.append(3);
    assert_eq!(done(&product, &["planned-failover", MACHINE, "--shut-down-timeout", "60s"])["serves"], true);
    done(&product, &["commit", MACHINE]);
    done(&product, &["reprotect", MACHINE]);
    full("sitea");
    assert_eq!(done(&product, &["failback", MACHINE, "--shut-down-timeout", "60s"])["serves"], true, "on the old disk and sixteen points");
    assert_eq!(answers(&lab, "sitea").verify(), (written, 0));
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
    assert!(autostart(&lab, "siteb"), "what was accepted starts with its host, as its source did");
    assert_eq!(item(&product, MACHINE)["old_machine"], "unknown", "nobody has heard of site A since");
    // Its host boots.
    lab.heal("sitea");
    lab.restart_libvirtd("sitea", true);
    lab.agent_again(&mut product, "agent-sitea", "sitea", DATA_PORT, &[("SWITCHBACK_BOOT_ID", "the-next-boot")]);
    wait_until("the item says that its old machine is quarantined", || (item(&product, MACHINE)["old_machine"] == "quarantined").then_some(()));
    assert!(!lab.runs("sitea", MACHINE), "the old machine does not run");
    assert!(!autostart(&lab, "sitea"));
    assert_eq!(item(&product, MACHINE)["alarms"], json!([]));
    home(&lab, &product);
}
