//! Rules of recovery on real machines: all that was sent, a source that shuts down first, another policy, a comparison, a held point.
//! Needs root and QEMU; `SWITCHBACK_REQUIRE_KVM=1` makes their absence a failure.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm, reason = "a test panics where its sentence does not hold")]

use serde_json::json;
use switchback_tests::{
    drive::{agents, done, item, newest, protect_with},
    lab::{Lab, kvm_or_skip},
    place::wait_until,
};

const IP: &str = "10.1.0.19";
const MACHINE: &str = "db9";
/// No point comes by itself while a test lasts.
const RARELY: [&str; 4] = ["--retention-points", "8", "--retention-window", "24h"];

#[test]
fn latest_holds_the_last_record_though_points_are_rare_and_a_held_point_keeps_the_commit() {
    if !kvm_or_skip("latest_holds_the_last_record_though_points_are_rare_and_a_held_point_keeps_the_commit") {
        return;
    }
    let lab = Lab::up("latest");
    let mut product = lab.product("latest");
    agents(&lab, &mut product);
    let source = lab.guest("sitea", MACHINE, IP, 0);
    let refused = product.say(&["protect", MACHINE, "--from", "sitea", "--to", "siteb", "--profile", "vmware", "--wait"]);
    assert!(refused.code == 1 && refused.err.contains("profile-not-operated"), "{refused:?}");
    protect_with(&product, MACHINE, IP, "1h", &RARELY);
    let (first, last) = (newest(&product, MACHINE), source.append(7));
    assert_eq!(done(&product, &["hold", MACHINE, "--point", &first.to_string(), "--reason", "a court asks for it"])["point"], first);

    // Another rhythm, and no copy from the beginning: the next point holds little.
    let sent = |product: &switchback_tests::product::Product| item(product, MACHINE)["replication"]["status"]["bytes_sent_total"].as_u64().unwrap();
    let seeded = sent(&product);
    drop(done(&product, &["change-policy", MACHINE, "--interval", "2s"]));
    let before = newest(&product, MACHINE);
    wait_until("points at the new interval", || (newest(&product, MACHINE) > before + 2).then_some(()));
    assert!(sent(&product) < seeded + seeded / 2, "{} after {seeded}", sent(&product));
    drop(done(&product, &["change-policy", MACHINE, "--interval", "1h"]));

    let compared = done(&product, &["resync", MACHINE])["point"].as_u64().unwrap();
    assert!(compared > before && item(&product, MACHINE)["record"]["state"]["resync"] == "none");
    let looked = done(&product, &["resolve", MACHINE]);
    assert_eq!((&looked["agrees"], &looked["not_heard"]), (&json!(true), &json!([])), "{looked}");

    let newer = source.append(5);
    assert!(newer > last);
    let failed_over = done(&product, &["failover", MACHINE, "--point", "latest"]);
    assert!(failed_over["point"].as_u64().unwrap() > compared, "{failed_over}");
    let target = lab.ledger("siteb", IP);
    assert_eq!(target.verify(), (newer, 0), "the last record before the failover is there");
    let told = product.say(&["commit", MACHINE]);
    assert!(told.code == 4 && told.err.contains("is held by"), "{told:?}");
    drop(done(&product, &["release", MACHINE, "--reason", "the court has it"]));
    drop(done(&product, &["commit", MACHINE]));
    assert_eq!(product.ask(&["verify"])["differences"], json!([]));
}

#[test]
fn a_source_that_is_asked_to_shut_down_before_an_unplanned_failover_loses_nothing_and_one_that_stays_is_ended() {
    if !kvm_or_skip("a_source_that_is_asked_to_shut_down_before_an_unplanned_failover_loses_nothing_and_one_that_stays_is_ended") {
        return;
    }
    let lab = Lab::up("asked");
    let mut product = lab.product("asked");
    agents(&lab, &mut product);
    for (machine, ip, words) in [(MACHINE, IP, ""), ("db10", "10.1.0.20", "down=never")] {
        let source = lab.guest_with("sitea", machine, ip, 0, words);
        protect_with(&product, machine, ip, "1h", &RARELY);
        let last = source.append(9);
        let failed_over = done(&product, &["failover", machine, "--point", "latest", "--shut-down", "--shut-down-timeout", "20s"]);
        assert_eq!((&failed_over["fenced"], &failed_over["serves"]), (&json!(true), &json!(true)), "{failed_over}");
        let (records, bad) = lab.ledger("siteb", ip).verify();
        assert_eq!(bad, 0);
        assert_eq!(records == last, words.is_empty(), "{machine}: {records} of {last}");
        assert!(!lab.runs("sitea", machine));
    }
    assert_eq!(product.ask(&["verify"])["differences"], json!([]));
}
