//! The isolated network of a copy, or of all copies of a plan on this host, and the proof that it reaches nothing.
//!
//! ```text
//!   libvirt network switchback-test.ITEM.GENERATION ── bridge sbtHASH ──┬── taps of the copy
//!        or switchback-test-plan.PLAN                                   ├── taps of the plan's other copies
//!     no address, no route, no uplink, nothing on top of it             └── sbpHASH ═ the probe, while it asks; sblHASH ═ a link for an action,
//!                                                                                     one of each for each copy
//! ```
//!
//! It is layer 2 only: with an address on the bridge the copy would reach this host, and through it everything else. So it ends at
//! this host as well: copies of a plan on other hosts are on a network of the same name there, and are not reached.
//!
//! Invariants: 1. The names follow from item and generation, or from the plan, so that what a killed agent has left is found. 2. The
//! proof is made from what the kernel and libvirt say now, never from what was asked for: a copy that is there already is one whose
//! definition, as libvirt runs it, says that it is a copy and has no card elsewhere.

use std::{collections::{BTreeMap, BTreeSet}, fs, io, path::Path, process::{Command, Stdio}};

use provider::{Applied, ProviderError};
use recovery::{Generation, ItemName, TestNetwork};
use serde::{Deserialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};

use super::test_copy;
use crate::{
    definition,
    guard::Right,
    hypervisor::{Hypervisor, Vm, escape},
};

const NETWORK_START: &str = "switchback-test.";
const SHARED_START: &str = "switchback-test-plan.";
const BRIDGE_START: &str = "sbt";
const PORT_START: &str = "sbp";
const LINK_START: &str = "sbl";

/// Names of one copy's network, and of its own ends on it.
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
    /// On a network of its own, or on one that it shares.
    pub(crate) fn of(item: &ItemName, generation: Generation, shared: Option<&TestNetwork>) -> Self {
        let own = format!("{NETWORK_START}{item}.{generation}");
        let (port, link) = (short(PORT_START, &own), short(LINK_START, &own));
        let network = shared.map_or(own, name_of);
        Self { bridge: bridge_of(&network), port, link, network }
    }
}

fn short(start: &str, name: &str) -> String {
    format!("{start}{}", &hex::encode(Sha256::digest(name))[..10])
}

/// libvirt's name for a network that copies share.
pub(super) fn name_of(shared: &TestNetwork) -> String {
    format!("{SHARED_START}{shared}")
}

/// The bridge of a network.
pub(super) fn bridge_of(network: &str) -> String {
    short(BRIDGE_START, network)
}

/// Whose a network is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Whose {
    Copy(ItemName, Generation),
    Copies(TestNetwork),
}

/// Whose a network of that name is; `None`: none of ours.
pub(super) fn whose(network: &str) -> Option<Whose> {
    if let Some(shared) = network.strip_prefix(SHARED_START) {
        return shared.parse().ok().map(Whose::Copies);
    }
    let (item, generation) = network.strip_prefix(NETWORK_START)?.rsplit_once('.')?;
    Some(Whose::Copy(item.parse().ok()?, generation.parse().ok()?))
}

/// libvirt's networks of copies.
pub(super) fn networks(hypervisor: &Hypervisor) -> Result<Vec<String>, ProviderError> {
    Ok([hypervisor.networks(NETWORK_START)?, hypervisor.networks(SHARED_START)?].concat())
}

/// Networks of which anything is left: what libvirt knows, and bridges that it has forgotten.
pub(super) fn left(hypervisor: &Hypervisor) -> Result<BTreeSet<Whose>, ProviderError> {
    let (networks, interfaces) = (networks(hypervisor)?, ours()?);
    let named = networks.iter().map(String::as_str).chain(interfaces.iter().filter_map(|i| i.ifalias.as_deref()));
    Ok(named.filter_map(whose).collect())
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

/// Makes the network run. One that runs is never ended here: this call may come late, and copies of a newer agent be on it.
pub(super) fn ensure(hypervisor: &Hypervisor, right: &Right<'_>, names: &Names) -> Result<(), ProviderError> {
    let Names { network, bridge, .. } = names;
    if hypervisor.running_network(network)?.is_none() {
        right.before("network")?;
    }
    if hypervisor.running_network(network)?.is_none() {
        hypervisor.forget_network(network)?;
        if !has_ports(bridge)? {
            remove_interface(bridge)?; // libvirt has forgotten it
        }
        let xml = format!("<network><name>{}</name><bridge name='{bridge}' stp='off' delay='0'/><dns enable='no'/></network>", escape(network));
        hypervisor.create_network(network, &xml)?;
    }
    without_ipv6(bridge)?;
    change(&format!("link set dev {bridge} alias {network}"))
}

/// Whether something is connected to a bridge, if there is one.
fn has_ports(bridge: &str) -> Result<bool, ProviderError> {
    Ok(interfaces()?.iter().any(|i| i.master.as_deref() == Some(bridge)))
}

/// Removes the copy's own ends on its network.
pub(super) fn remove_ends(names: &Names) -> Result<(), ProviderError> {
    remove_interface(&names.port)?;
    remove_interface(&names.link)
}

/// Removes a network, whatever is left of it.
pub(super) fn remove(hypervisor: &Hypervisor, network: &str) -> Result<(), ProviderError> {
    hypervisor.remove_network(network)?;
    remove_interface(&bridge_of(network))
}

/// What may be connected to the bridge.
#[derive(Debug, Default)]
struct Ports {
    /// The copy's own cards, which must be.
    own: BTreeSet<String>,
    /// Cards of the other copies that share it, by machine.
    others: BTreeMap<String, BTreeSet<String>>,
    /// Where copies are asked, and linked to.
    ends: BTreeSet<String>,
}

impl Ports {
    /// What libvirt runs on the network, and the ends that copies on it may have. `copy` is the copy's machine, if it is there already.
    ///
    /// # Errors
    /// In words, within: a copy that reaches further than the network.
    fn of(hypervisor: &Hypervisor, names: &Names, copy: Option<&Vm>, ends: BTreeSet<String>) -> Result<Result<Self, String>, ProviderError> {
        let Names { network, bridge, port, link } = names;
        let mut ports = Self { ends, ..Self::default() };
        ports.ends.extend([port.clone(), link.clone()]);
        if let Some(vm) = copy {
            match definition::taps(&vm.live_definition()?, network, bridge) {
                Ok(taps) => ports.own = taps,
                Err(why) => return Ok(Err(format!("{}: {why}", vm.name))),
            }
        }
        if !matches!(whose(network), Some(Whose::Copies(_))) {
            return Ok(Ok(ports));
        }
        for vm in hypervisor.all()? {
            let live = match vm.live_definition() {
                Ok(live) => live,
                // It has gone since, and its cards with it.
                Err(_) if !vm.active().unwrap_or(false) => continue,
                Err(why) => return Err(why),
            };
            let Some((item, token)) = test_copy::owner_of_copy(&live) else { continue };
            if copy.is_some_and(|own| own.uuid == vm.uuid) || !live.contains(bridge.as_str()) {
                continue;
            }
            match definition::taps(&live, network, bridge) {
                Ok(taps) => drop(ports.others.insert(vm.name.clone(), taps)),
                Err(_) if !vm.active().unwrap_or(false) => continue,
                Err(why) => return Ok(Err(format!("{}: {why}", vm.name))),
            }
            let its = Names::of(&item, token.generation(), None);
            ports.ends.extend([its.port, its.link]);
        }
        Ok(Ok(ports))
    }

    fn told(self, network: &str) -> String {
        let own: Vec<String> = self.own.into_iter().collect();
        let mut told = if own.is_empty() { "no port".to_owned() } else { format!("no port but the copy's {}", own.join(", ")) };
        if !self.others.is_empty() {
            let others = self.others.iter().map(|(machine, taps)| format!("{machine}'s {}", taps.iter().cloned().collect::<Vec<_>>().join(", ")));
            let before = if own.is_empty() { " but " } else { " and " };
            told.push_str(&format!("{before}{}", others.collect::<Vec<_>>().join(", ")));
        }
        let ends_here = if matches!(whose(network), Some(Whose::Copies(_))) { "; it ends at this host, as those of the plan on other hosts do there" } else { "" };
        format!("{told}, no address or route of this host, no uplink and nothing on top of it{ends_here}")
    }
}

/// Looks whether nothing but the cards of the copies that share it can reach the network. `copy` is the copy's machine, if it is there
/// already, `ends` what others that share it may have on it. Nobody starts a copy on the network meanwhile: a card that came after the
/// look at the machines would be a stranger's.
///
/// # Errors
/// `NotIsolated`, with everything that was found; `Platform`: it could not be looked at.
pub(super) fn prove(hypervisor: &Hypervisor, names: &Names, copy: Option<&Vm>, ends: BTreeSet<String>) -> Result<String, ProviderError> {
    let Names { network, bridge, .. } = names;
    let refused = |found: Vec<String>| ProviderError::NotIsolated { network: network.clone(), detail: found.join("; ") };
    let running = hypervisor.running_network(network)?;
    if running.is_none_or(|n| n.bridge.as_deref() != Some(bridge)) {
        return Err(refused(vec![format!("libvirt runs no such network on bridge {bridge}")]));
    }
    let ports = Ports::of(hypervisor, names, copy, ends)?.map_err(|why| refused(vec![why]))?;
    let addresses: Vec<Addressed> = told(&["-json", "address", "show", "dev", bridge])?;
    let routes: Vec<serde_json::Value> = told(&["-json", "route", "show", "table", "all", "dev", bridge])?;
    let mut found = judge(&interfaces()?, bridge, &ports);
    found.extend(addresses.into_iter().flat_map(|a| a.addr_info).map(|a| format!("this host has the address {} on it", a.local.unwrap_or_default())));
    found.extend(routes.iter().map(|r| format!("this host has a route to {} over it", r["dst"].as_str().unwrap_or("somewhere"))));
    if !found.is_empty() {
        return Err(refused(found));
    }
    Ok(format!("bridge {bridge} has {}", ports.told(network)))
}

/// What of the host's interfaces touches the bridge and should not.
fn judge(all: &[Interface], bridge: &str, Ports { own, others, ends }: &Ports) -> Vec<String> {
    let mut found = vec![];
    match all.iter().find(|i| i.ifname == bridge) {
        None => found.push(format!("there is no interface {bridge}")),
        Some(it) => {
            let kind = it.linkinfo.as_ref().and_then(|k| k.info_kind.as_deref());
            if kind != Some("bridge") {
                found.push(format!("{bridge} is no bridge but {}", kind.unwrap_or("something else")));
            }
            found.extend(it.master.iter().map(|master| format!("{bridge} itself is a port of {master}")));
        }
    }
    let mut missing = own.clone();
    for it in all.iter().filter(|i| i.ifname != bridge) {
        if it.master.as_deref() == Some(bridge) {
            let of_others = || others.values().any(|taps| taps.contains(&it.ifname));
            let known = missing.remove(&it.ifname) || ends.contains(&it.ifname) || of_others();
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
        let names = Names::of(&item, generation, None);
        assert_eq!(names, Names::of(&item, generation, None));
        assert!(names.bridge.len() <= 15 && names.port.len() <= 15);
        assert_eq!(whose(&names.network), Some(Whose::Copy(item.clone(), generation)));
        assert_ne!(names.bridge, Names::of(&item, Generation { era: 1, grant_epoch: 13 }, None).bridge);
        assert_eq!(whose("default"), None);
    }

    #[test]
    fn copies_of_a_plan_share_a_network_and_have_ends_of_their_own_on_it() {
        let (generation, plan) = (Generation { era: 1, grant_epoch: 12 }, "shop.e1-g12".parse().unwrap());
        let of = |item: &str| Names::of(&item.parse().unwrap(), generation, Some(&plan));
        let (one, other) = (of("db1"), of("db2"));
        assert_eq!((&one.network, &one.bridge), (&other.network, &other.bridge));
        assert!(one.port != other.port && one.link != other.link);
        assert_eq!(whose(&one.network), Some(Whose::Copies(plan)), "and not a copy of an item of that name");
    }

    #[test]
    fn whatever_touches_the_bridge_is_found() {
        let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
        let others = BTreeMap::from([("db2-test".to_owned(), set(&["vnet2"]))]);
        let ports = Ports { own: set(&["vnet1"]), others, ends: set(&["probe", "link"]) };
        let all = |json: &str| serde_json::from_str::<Vec<Interface>>(json).unwrap();
        let bridge = r#"{"ifname":"br","linkinfo":{"info_kind":"bridge"}}"#;
        let judged = |others: &str| judge(&all(&format!("[{bridge},{others}]")), "br", &ports);
        let fine = r#"{"ifname":"vnet1","master":"br"},{"ifname":"probe","master":"br"},{"ifname":"link","master":"br"},{"ifname":"vnet2","master":"br"},{"ifname":"eth0","master":"br0"},{"ifname":"lo"}"#;
        assert_eq!(judged(fine), [""; 0]);
        let uplink = format!(r#"{fine},{{"ifname":"eth1","master":"br"}}"#);
        assert_eq!(judged(&uplink), ["eth1 is connected to it"]);
        let vlan = format!(r#"{fine},{{"ifname":"br.7","link":"br"}}"#);
        assert_eq!(judged(&vlan), ["br.7 lies on top of it"]);
        assert_eq!(judged(r#"{"ifname":"lo"}"#), ["the copy's vnet1 is not connected to it"]);
        let enslaved = all(r#"[{"ifname":"br","master":"bond0","linkinfo":{"info_kind":"bridge"}}]"#);
        assert_eq!(judge(&enslaved, "br", &Ports::default()), ["br itself is a port of bond0"]);
        assert_eq!(judge(&[], "br", &Ports::default()), ["there is no interface br"]);
    }
}
