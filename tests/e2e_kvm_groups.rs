//! A replication group on real machines, with the shipped programs: moments go on without server and database, and after the death of
//! the agent that takes them; both members are recovered at one of them.
//! Needs root and QEMU; `SWITCHBACK_REQUIRE_KVM=1` makes their absence a failure.
#![allow(clippy::unwrap_used, reason = "a test panics where its sentence does not hold")]

use std::fs;

use serde_json::{Value, json};
use switchback_tests::{
    drive::{DATA_PORT, agents, done, protect},
    lab::{Lab, kvm_or_skip},
    place::wait_until,
    product::Product,
};

const MEMBERS: [(&str, &str); 2] = [("db1", "10.1.0.21"), ("db2", "10.1.0.22")];

fn group(product: &Product) -> Value {
    let said = product.say(&["-o", "json", "group", "describe", "shop"]);
    serde_json::from_str(&said.out).unwrap_or_else(|error| panic!("{error}: {said:?}"))
}

/// A common moment after that one.
fn moment_after(product: &Product, before: &Value) -> Value {
    wait_until("a common moment", || {
        let last = group(product)["last"].clone();
        (last["taken_at"].as_str() > before["taken_at"].as_str()).then_some(last)
    })
}

/// How many moments the source's agent has taken, by its own file.
fn taken(lab: &Lab) -> u64 {
    let file = lab.storage("sitea").join(".site/groups/shop.json");
    let log: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    log["count"].as_u64().unwrap()
}

#[test]
fn a_group_takes_its_moments_alone_and_is_recovered_at_one_of_them() {
    if !kvm_or_skip("a_group_takes_its_moments_alone_and_is_recovered_at_one_of_them") {
        return;
    }
    let lab = Lab::up("groups");
    let mut product = lab.product("groups");
    agents(&lab, &mut product);
    for (machine, ip) in MEMBERS {
        lab.guest("sitea", machine, ip, 100);
        protect(&product, machine, ip, "2s");
    }
    // Emulated machines on a busy host stand still for longer than those of a real one.
    let made = done(&product, &["group", "create", "shop", "--items", "db1,db2", "--interval", "2s", "--max-pause", "3s"]);
    assert_eq!(made["members"], json!(["db1", "db2"]), "{made}");
    let first = moment_after(&product, &Value::Null);
    // The target's points are reported by one agent, how long machines stood still by the other.
    wait_until("the pause to be told", || {
        let told = product.say(&["group", "describe", "shop"]).out;
        (told.contains("machines stood still") && told.contains("3000 ms allowed")).then_some(())
    });

    product.stop();
    let before = taken(&lab);
    wait_until("moments without server and database", || (taken(&lab) > before + 2).then_some(()));
    product.kill_agent("agent-sitea");
    product.start_again();
    lab.agent_again(&mut product, "agent-sitea", "sitea", DATA_PORT, &[]);
    let before = moment_after(&product, &first);
    let last = moment_after(&product, &before);
    println!("{}", group(&product)["status"]);

    for of in last["points"].as_array().unwrap() {
        let (item, point) = (of["item"].as_str().unwrap(), of["point"].to_string());
        let moved = done(&product, &["failover", item, "--point", &point]);
        assert_eq!((&moved["fenced"], &moved["serves"]), (&json!(true), &json!(true)), "{moved}");
    }
    assert_eq!(group(&product)["group"]["members"], json!(["db1", "db2"]), "they stay together");
    assert_eq!(product.ask(&["verify"])["differences"], json!([]));
}
