//! The isolated network of a copy, and the proof that it reaches nothing.
//!
//! ```text
//!   libvirt network switchback-test.ITEM.GENERATION ── bridge sbtHASH ──┬── taps of the copy
//!     no address, no route, no uplink, nothing on top of it             └── sbpHASH ═ the probe, while it asks; sblHASH ═ a link for an action
//! ```
//!
//! It is layer 2 only: with an address on the bridge the copy would reach this host, and through it everything else.
//!
//! Invariants: 1. The names follow from item and generation, so that what a killed agent has left is found. 2. The proof is made
//! from what the kernel and libvirt say now, never from what was asked for.

use std::{collections::BTreeSet, fs, io, path::Path, process::{Command, Stdio}};

use provider::{Applied, ProviderError};
use recovery::{Generation, ItemName};
use serde::{Deserialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};

use crate::{
    definition,
    guard::Right,
    hypervisor::{Hypervisor, Vm, escape},
};

const NETWORK_START: &str = "switchback-test.";
const BRIDGE_START: &str = "sbt";
const PORT_START: &str = "sbp";
const LINK_START: &str = "sbl";

/// Names of one copy's network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Names {
    pub(crate) network: String,
    /// An interface has at most 15 characters.
    pub(crate) bridge: String,
    /// The probe's end.
    pub(crate) port: String,
    /// The end of a link for a plan's action.
    pub(crate) link: String,
}

impl Names {
    pub(crate) fn of(item: &ItemName, generation: Generation) -> Self {
        let network = format!("{NETWORK_START}{item}.{generation}");
        let hash = &hex::encode(Sha256::digest(&network))[..10];
        Self { bridge: format!("{BRIDGE_START}{hash}"), port: format!("{PORT_START}{hash}"), link: format!("{LINK_START}{hash}"), network }
    }
}

/// Whose copy a network of that name belongs to.
pub(super) fn whose(network: &str) -> Option<(ItemName, Generation)> {
    let (item, generation) = network.strip_prefix(NETWORK_START)?.rsplit_once('.')?;
    Some((item.parse().ok()?, generation.parse().ok()?))
}

/// A network interface of the host, as `ip -json` has it.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Interface {
    pub(super) ifname: String,
    /// What it lies on, such as the interface of a VLAN.
    link: Option<String>,
    master: Option<String>,
    /// Of a bridge of ours: the name of its network.
    pub(super) ifalias: Option<String>,
    linkinfo: Option<Kind>,
}

#[derive(Debug, Clone, Deserialize)]
struct Kind {
    info_kind: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Addressed {
    addr_info: Vec<Address>,
}

#[derive(Debug, Deserialize)]
struct Address {
    local: Option<String>,
}

fn ip(args: &[&str]) -> Result<Vec<u8>, ProviderError> {
    let failed = |detail: String, applied| ProviderError::Platform { operation: "ip".to_owned(), target: args.join(" "), detail, applied };
    let output = Command::new("ip").args(args).stdin(Stdio::null()).output();
    let output = output.map_err(|e| failed(format!("it can't be started (package iproute2): {e}"), Applied::No))?;
    if output.status.success() { Ok(output.stdout) } else { Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_owned(), Applied::Unknown)) }
}

/// Changes an interface.
pub(super) fn change(line: &str) -> Result<(), ProviderError> {
    ip(&line.split(' ').collect::<Vec<_>>()).map(drop)
}

fn told<T: DeserializeOwned>(args: &[&str]) -> Result<Vec<T>, ProviderError> {
    let said = ip(args)?;
    if said.iter().all(u8::is_ascii_whitespace) {
        return Ok(vec![]);
    }
    serde_json::from_slice(&said).map_err(|e| ProviderError::Platform {
        operation: "ip".to_owned(),
        target: args.join(" "),
        detail: format!("its answer can't be read: {e}"),
        applied: Applied::No,
    })
}

fn interfaces() -> Result<Vec<Interface>, ProviderError> {
    told(&["-json", "-details", "link", "show"])
}

/// What of ours there is among the host's interfaces.
pub(super) fn ours() -> Result<Vec<Interface>, ProviderError> {
    let start = |i: &Interface| i.ifname.starts_with(BRIDGE_START) || i.ifname.starts_with(PORT_START) || i.ifname.starts_with(LINK_START);
    Ok(interfaces()?.into_iter().filter(start).collect())
}

/// Removes an interface, if it is there.
pub(super) fn remove_interface(name: &str) -> Result<(), ProviderError> {
    let there = |name: &str| Ok::<_, ProviderError>(interfaces()?.iter().any(|i| i.ifname == name));
    if !there(name)? {
        return Ok(());
    }
    match change(&format!("link delete {name}")) {
        Err(error) if there(name)? => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Keeps the kernel from giving an interface addresses of its own.
pub(super) fn without_ipv6(interface: &str) -> Result<(), ProviderError> {
    let path = Path::new("/proc/sys/net/ipv6/conf").join(interface).join("disable_ipv6");
    match fs::write(&path, "1") {
        // A kernel without IPv6 gives none.
        Err(e) if e.kind() == io::ErrorKind::NotFound && !Path::new("/proc/sys/net/ipv6").exists() => Ok(()),
        other => other.map_err(crate::durable::failed("write", &path)),
    }
}

/// Makes the network run.
pub(super) fn ensure(hypervisor: &Hypervisor, right: &Right<'_>, names: &Names) -> Result<(), ProviderError> {
    let Names { network, bridge, .. } = names;
    let running = hypervisor.running_network(network)?;
    if running.is_none_or(|n| n.bridge.as_deref() != Some(bridge)) {
        right.before("network")?;
        hypervisor.remove_network(network)?;
        remove_interface(bridge)?; // libvirt has forgotten it
        let xml = format!("<network><name>{}</name><bridge name='{bridge}' stp='off' delay='0'/><dns enable='no'/></network>", escape(network));
        hypervisor.create_network(network, &xml)?;
    }
    without_ipv6(bridge)?;
    change(&format!("link set dev {bridge} alias {network}"))
}

/// Removes the network with everything that hangs on it, whatever is left of it.
pub(super) fn remove(hypervisor: &Hypervisor, names: &Names) -> Result<(), ProviderError> {
    remove_interface(&names.port)?;
    remove_interface(&names.link)?;
    hypervisor.remove_network(&names.network)?;
    remove_interface(&names.bridge)
}

/// Looks whether nothing but the copy's own cards can reach the network. `copy` is the copy's machine, if it is there already.
///
/// # Errors
/// `NotIsolated`, with everything that was found; `Platform`: it could not be looked at.
pub(super) fn prove(hypervisor: &Hypervisor, names: &Names, copy: Option<&Vm>) -> Result<String, ProviderError> {
    let Names { network, bridge, .. } = names;
    let refused = |found: Vec<String>| ProviderError::NotIsolated { network: network.clone(), detail: found.join("; ") };
    let running = hypervisor.running_network(network)?;
    if running.is_none_or(|n| n.bridge.as_deref() != Some(bridge)) {
        return Err(refused(vec![format!("libvirt runs no such network on bridge {bridge}")]));
    }
    let taps = match copy {
        Some(vm) => definition::taps(&vm.live_definition()?, network, bridge).map_err(|why| refused(vec![format!("{}: {why}", vm.name)]))?,
        None => BTreeSet::new(),
    };
    let addresses: Vec<Addressed> = told(&["-json", "address", "show", "dev", bridge])?;
    let routes: Vec<serde_json::Value> = told(&["-json", "route", "show", "table", "all", "dev", bridge])?;
    let mut found = judge(&interfaces()?, names, &taps);
    found.extend(addresses.into_iter().flat_map(|a| a.addr_info).map(|a| format!("this host has the address {} on it", a.local.unwrap_or_default())));
    found.extend(routes.iter().map(|r| format!("this host has a route to {} over it", r["dst"].as_str().unwrap_or("somewhere"))));
    if !found.is_empty() {
        return Err(refused(found));
    }
    let ports = if taps.is_empty() { "no port".to_owned() } else { format!("no port but the copy's {}", taps.into_iter().collect::<Vec<_>>().join(", ")) };
    Ok(format!("bridge {bridge} has {ports}, no address or route of this host, no uplink and nothing on top of it"))
}

/// What of the host's interfaces touches the bridge and should not.
fn judge(all: &[Interface], Names { bridge, port, link, .. }: &Names, taps: &BTreeSet<String>) -> Vec<String> {
    let mut found = vec![];
    match all.iter().find(|i| i.ifname == *bridge) {
        None => found.push(format!("there is no interface {bridge}")),
        Some(it) => {
            let kind = it.linkinfo.as_ref().and_then(|k| k.info_kind.as_deref());
            if kind != Some("bridge") {
                found.push(format!("{bridge} is no bridge but {}", kind.unwrap_or("something else")));
            }
            found.extend(it.master.iter().map(|master| format!("{bridge} itself is a port of {master}")));
        }
    }
    let mut missing = taps.clone();
    for it in all.iter().filter(|i| i.ifname != *bridge) {
        if it.master.as_deref() == Some(bridge) {
            let known = missing.remove(&it.ifname) || it.ifname == *port || it.ifname == *link;
            found.extend((!known).then(|| format!("{} is connected to it", it.ifname)));
        }
        if it.link.as_deref() == Some(bridge) {
            found.push(format!("{} lies on top of it", it.ifname));
        }
    }
    found.extend(missing.into_iter().map(|tap| format!("the copy's {tap} is not connected to it")));
    found
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails where its sentence does not hold")]
mod tests {
    use super::*;

    #[test]
    fn names_are_stable_short_and_lead_back_to_the_item() {
        let (item, generation): (ItemName, _) = ("a.very-long_name".parse().unwrap(), Generation { era: 1, grant_epoch: 12 });
        let names = Names::of(&item, generation);
        assert_eq!(names, Names::of(&item, generation));
        assert!(names.bridge.len() <= 15 && names.port.len() <= 15);
        assert_eq!(whose(&names.network), Some((item.clone(), generation)));
        assert_ne!(names.bridge, Names::of(&item, Generation { era: 1, grant_epoch: 13 }).bridge);
        assert_eq!(whose("default"), None);
    }

    #[test]
    fn whatever_touches_the_bridge_is_found() {
        let names = Names { network: "n".into(), bridge: "br".into(), port: "probe".into(), link: "link".into() };
        let all = |json: &str| serde_json::from_str::<Vec<Interface>>(json).unwrap();
        let bridge = r#"{"ifname":"br","linkinfo":{"info_kind":"bridge"}}"#;
        let taps = BTreeSet::from(["vnet1".to_owned()]);
        let judged = |others: &str| judge(&all(&format!("[{bridge},{others}]")), &names, &taps);
        let fine = r#"{"ifname":"vnet1","master":"br"},{"ifname":"probe","master":"br"},{"ifname":"link","master":"br"},{"ifname":"eth0","master":"br0"},{"ifname":"lo"}"#;
        assert_eq!(judged(fine), [""; 0]);
        let uplink = format!(r#"{fine},{{"ifname":"eth1","master":"br"}}"#);
        assert_eq!(judged(&uplink), ["eth1 is connected to it"]);
        let vlan = format!(r#"{fine},{{"ifname":"br.7","link":"br"}}"#);
        assert_eq!(judged(&vlan), ["br.7 lies on top of it"]);
        assert_eq!(judged(r#"{"ifname":"lo"}"#), ["the copy's vnet1 is not connected to it"]);
        let enslaved = all(r#"[{"ifname":"br","master":"bond0","linkinfo":{"info_kind":"bridge"}}]"#);
        assert_eq!(judge(&enslaved, &names, &BTreeSet::new()), ["br itself is a port of bond0"]);
        assert_eq!(judge(&[], &names, &BTreeSet::new()), ["there is no interface br"]);
    }
}
