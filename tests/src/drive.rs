//! What many tests do with the product on real machines: protect, wait for points, look at an item.

use serde_json::Value;

use crate::{lab::Lab, place::wait_until, product::Product};

/// Where agents take data from other sites.
pub const DATA_PORT: u16 = 7444;

/// Enrols and starts an agent at each site.
pub fn agents(lab: &Lab, product: &mut Product) {
    for site in ["sitea", "siteb"] {
        lab.agent(product, &format!("agent-{site}"), site, DATA_PORT, &[]);
    }
}

/// Protects a machine of `sitea`, with points at `siteb`.
pub fn protect(product: &Product, machine: &str, ip: &str, interval: &str) {
    protect_with(product, machine, ip, interval, &["--retention-points", "16", "--retention-window", "2h"]);
}

/// The same with other settings.
pub fn protect_with(product: &Product, machine: &str, ip: &str, interval: &str, settings: &[&str]) {
    let check = format!("http://{ip}:8080/status");
    let from = ["protect", machine, "--from", "sitea", "--to", "siteb", "--interval", interval, "--check", &check, "--wait"];
    let view = product.ask(&[&from[..], settings].concat());
    assert_eq!(view["state"], "completed", "{view}");
}

/// The newest point of an item that can be chosen at a site; 0 if there is none.
#[must_use]
pub fn newest_at(product: &Product, machine: &str, site: &str) -> u64 {
    let answer = product.ask(&["points", machine]);
    let listed = answer["items"].as_array().into_iter().flatten();
    let here = listed.filter(|listed| listed["site"] == site && listed["point"]["withdrawn"] != true);
    here.filter_map(|listed| listed["point"]["id"].as_u64()).max().unwrap_or(0)
}

/// The newest point at `siteb`.
#[must_use]
pub fn newest(product: &Product, machine: &str) -> u64 {
    newest_at(product, machine, "siteb")
}

/// Waits for a point that was begun after this call: the second one that comes, because the first may be under way already.
pub fn next_whole_point(product: &Product, machine: &str) -> u64 {
    next_whole_point_at(product, machine, "siteb")
}

/// The same at a site.
pub fn next_whole_point_at(product: &Product, machine: &str, site: &str) -> u64 {
    let before = newest_at(product, machine, site);
    wait_until("two more points", || (newest_at(product, machine, site) > before + 1).then_some(()));
    newest_at(product, machine, site)
}

/// Asks for an operation, waits for its end, which must be a good one; what it gave.
pub fn done(product: &Product, words: &[&str]) -> Value {
    let view = product.ask(&[words, &["--wait"]].concat());
    assert_eq!(view["state"], "completed", "{words:?}: {view}");
    view["output"].clone()
}

/// An item as it is shown.
#[must_use]
pub fn item(product: &Product, machine: &str) -> Value {
    product.ask(&["get", "item", machine])
}
