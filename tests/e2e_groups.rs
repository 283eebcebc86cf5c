//! Replication groups on simulated sites, by the command line: made, looked at, refused, changed, through a failover and home again.
#![allow(clippy::unwrap_used, reason = "a test panics where its sentence does not hold")]

use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
};

use serde_json::{Value, json};
use switchback_tests::product::{Product, wait_until};

/// Machines of site a, protected to b.
fn protected(name: &str, items: &[&str]) -> Product {
    let mut product = Product::start(name, &[]);
    product.host_simulated_sites(&[]);
    for item in items {
        if *item != "db9" {
            product.world(json!({ "do": "add-machine", "site": "a", "machine": item, "blocks": 8 }));
        }
        drop(product.ask(&["protect", item, "--from", "a", "--to", "b", "--interval", "1s", "--wait"]));
    }
    product
}

fn made(product: &Product, items: &str) {
    let ended = product.ask(&["group", "create", "shop", "--items", items, "--interval", "2s", "--app-consistent-every", "20s", "--wait"]);
    assert_eq!((&ended["state"], &ended["output"]["untold"]), (&json!("completed"), &Value::Null), "{ended}");
}

fn group(product: &Product) -> Value {
    let said = product.say(&["-o", "json", "group", "describe", "shop"]);
    serde_json::from_str(&said.out).unwrap_or_else(|error| panic!("{error}: {said:?}"))
}

/// A common moment that is none of these.
fn moment(product: &Product, before: &str) -> String {
    wait_until("a common moment", || {
        let view = group(product);
        view["last"]["moment"].as_str().filter(|moment| *moment != before && view["why_none"] == Value::Null).map(str::to_owned)
    })
}

/// The moments of an item's points, by its list.
fn moments(product: &Product, item: &str) -> Vec<String> {
    let points = product.ask(&["points", item]);
    let points = points["items"].as_array().unwrap().iter();
    points.filter_map(|point| Some(point["point"]["group"]["moment"].as_str()?.to_owned())).collect()
}

fn refused(product: &Product, words: &[&str], code: i32, problem: &str, detail: &str) {
    let said = product.say(words);
    assert_eq!(said.code, code, "{words:?}: {said:?}");
    assert!(said.err.contains(&format!("problem:   /problems/{problem}")) && said.err.contains(detail), "{words:?}: {said:?}");
}

/// What monitoring scrapes.
fn metrics(product: &Product) -> String {
    let mut stream = UnixStream::connect(product.state_dir().join("api.sock")).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn a_group_is_made_and_its_points_share_moments_and_what_can_not_be_is_refused() {
    let product = protected("groups", &["db9", "web", "app"]);
    refused(&product, &["group", "create", "shop", "--items", "db9,nobody"], 3, "unknown-item", "no item is called nobody");
    refused(&product, &["group", "create", "shop", "--items", "db9"], 2, "invalid-request", "1 items is outside 2 to 16");
    refused(&product, &["group", "create", "shop", "--items", "db9,web", "--keep-moments", "11"], 2, "invalid-request", "outside 1 to 8");
    refused(&product, &["group", "describe", "shop"], 3, "unknown-group", "no replication group is called shop");
    assert_eq!(product.ask(&["group", "list"])["items"], json!([]));

    made(&product, "db9,web");
    let first = moment(&product, "");
    assert_ne!(moment(&product, &first), first);
    let last = group(&product)["last"].clone();
    for item in ["db9", "web"] {
        assert!(moments(&product, item).contains(&last["moment"].as_str().unwrap().to_owned()), "{item}: {last}");
    }
    assert_eq!(moments(&product, "app"), [""; 0]);
    let told = product.say(&["points", "db9"]);
    assert!(told.out.contains("COMMON MOMENT") && told.out.contains(last["moment"].as_str().unwrap()), "{told:?}");
    wait_until("an app-consistent moment", || (group(&product)["last_app"]["consistency"] == "app").then_some(()));
    let told = product.say(&["group", "list"]);
    assert!(told.code == 0 && told.out.contains("db9, web") && told.out.contains("ms, at most"), "{told:?}");

    refused(&product, &["group", "create", "shop", "--items", "db9,web"], 4, "name-taken", "a replication group is called shop");
    refused(&product, &["group", "create", "bank", "--items", "web,app"], 4, "not-now", "item web is in replication group shop already");
    refused(&product, &["group", "change", "shop", "--remove", "app"], 4, "not-now", "item app is not in replication group shop");
    assert_eq!(product.say(&["group", "change", "shop"]).code, 2);
    assert_eq!(product.ask(&["verify"])["differences"], json!([]));
}

#[test]
fn a_member_that_is_off_or_leaves_or_is_unprotected_is_said_and_holds_nobody() {
    let product = protected("group-members", &["db9", "web", "app"]);
    made(&product, "db9,web,app");
    let before = moment(&product, "");
    let changed = product.ask(&["group", "change", "shop", "--remove", "app", "--interval", "1s", "--wait"]);
    assert_eq!(changed["output"]["members"], json!(["db9", "web"]), "{changed}");
    let after = moment(&product, &before);
    assert_eq!(group(&product)["group"]["interval_s"], 1);
    assert!(product.ask(&["get", "item", "app"])["record"]["group"].is_null());

    product.world(json!({ "do": "power-off", "site": "a", "machine": "web" }));
    let told = wait_until("a reason and an alarm", || {
        let said = product.say(&["group", "describe", "shop"]);
        (said.code == 6).then_some(said)
    });
    assert!(told.out.contains("ALARM") && told.out.contains("the machine of web is off"), "{told:?}");
    let points = |item: &str| product.points(item).into_keys().next_back().unwrap_or(0);
    let newest = points("db9");
    wait_until("points of the other one", || (points("db9") > newest + 1).then_some(()));
    let metrics = metrics(&product);
    assert!(metrics.contains("switchback_group_without_common_moment{group=\"shop\"} 1\n"), "{metrics}");
    assert!(metrics.contains("switchback_group_common_moment_age_seconds{group=\"shop\"} "), "{metrics}");
    product.world(json!({ "do": "power-on", "site": "a", "machine": "web" }));
    drop(moment(&product, &after));

    drop(product.ask(&["group", "change", "shop", "--add", "app", "--wait"]));
    let unprotected = product.ask(&["unprotect", "web", "--wait"]);
    let left = &unprotected["output"]["left_group"];
    assert_eq!(left["group"], "shop", "{unprotected}");
    assert_eq!(product.ended(left["told_by"].as_str().unwrap())["state"], "completed");
    assert_eq!(group(&product)["group"]["members"], json!(["app", "db9"]));
    drop(moment(&product, ""));

    let gone = product.ask(&["unprotect", "app", "--wait"])["output"]["left_group"]["told_by"].as_str().unwrap().to_owned();
    assert_eq!(product.ended(&gone)["state"], "completed");
    assert_eq!(product.ask(&["group", "list"])["items"], json!([]), "one machine is no group");
    assert_eq!(product.item_state("db9"), "protected");
    assert_eq!(product.ask(&["verify"])["differences"], json!([]));
}

#[test]
fn a_group_goes_away_and_comes_home_together() {
    let product = protected("group-home", &["db9", "web"]);
    made(&product, "db9,web");
    let at_home = moment(&product, "");
    let done = |words: &[&str]| assert_eq!(product.ask(&[words, &["--wait"]].concat())["state"], "completed", "{words:?}");
    done(&["planned-failover", "db9"]);
    done(&["commit", "db9"]);
    done(&["reprotect", "db9"]);
    let apart = group(&product);
    assert!(apart["why_none"].as_str().unwrap().starts_with("its members run at different sites: db9 at b, web at a"), "{apart}");
    assert_eq!(apart["last"], Value::Null, "what one of them has at one site is in common with nobody");
    for words in [["planned-failover", "web"], ["commit", "web"], ["reprotect", "web"]] {
        done(&words);
    }
    let away = moment(&product, &at_home);
    assert!(away.starts_with("b-"), "{away} was taken where they run");
    let change = product.ask(&["group", "change", "shop", "--max-pause", "500ms", "--wait"]);
    assert_eq!(change["state"], "completed", "{change}");
    for item in ["db9", "web"] {
        done(&["failback", item]);
        done(&["commit", item]);
        done(&["reprotect", item]);
    }
    let back = moment(&product, &away);
    assert!(back.starts_with("a-"), "{back}");
    assert_eq!(group(&product)["group"]["max_pause_ms"], 500);
    done(&["group", "remove", "shop"]);
    assert_eq!(product.ask(&["group", "list"])["items"], json!([]));
    assert_eq!(product.ask(&["verify"])["differences"], json!([]));
}
