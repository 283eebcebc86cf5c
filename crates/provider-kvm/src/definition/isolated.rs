//! The definition of a copy for tests: the same machine, without anything that others on this host use.
//!
//! ```text
//!   name, UUID          its own                       files, sockets, ports      its own, or left out
//!   network cards       all on one isolated network   devices of the host        left out, and listed
//!   MAC, model, slot    as they are                   extra QEMU arguments       left out, and listed
//! ```
//!
//! Invariant: what is left out is listed for people, since a test that lacks it proves less.

use std::{collections::BTreeSet, ops::Range, path::Path};

use provider::ProviderError;
use roxmltree::{Document, Node};
use sha2::{Digest, Sha256};

use super::{apply, attribute, child, not_protectable, parse};
use crate::hypervisor::escape;

const QEMU_NAMESPACE: &str = "http://libvirt.org/schemas/domain/qemu/1.0";
/// Devices that belong to the host or are shared with others on it.
const OF_THE_HOST: [&str; 9] = ["hostdev", "redirdev", "redirfilter", "filesystem", "shmem", "vsock", "lease", "smartcard", "nvram"];
/// What a network card keeps.
const OF_A_CARD: [&str; 8] = ["mac", "model", "driver", "rom", "address", "link", "boot", "mtu"];

/// What the copy is to be.
#[derive(Debug)]
pub(crate) struct Isolated<'a> {
    pub(crate) name: &'a str,
    /// The only network that it is connected to.
    pub(crate) network: &'a str,
    /// Where what its serial ports print is kept.
    pub(crate) dir: &'a Path,
    /// Begins the names of those files.
    pub(crate) stem: &'a str,
}

/// A definition, and what it lacks.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Copied {
    pub(crate) xml: String,
    pub(crate) left_out: Vec<String>,
}

type Edits = Vec<(Range<usize>, String)>;

/// Turns a definition into that of a copy. Disks and UUID are the caller's.
///
/// # Errors
/// `NotProtectable`: it can't be read.
pub(crate) fn isolated(machine: &str, xml: &str, to: &Isolated<'_>) -> Result<Copied, ProviderError> {
    let document = parse(machine, xml)?;
    let root = document.root_element();
    let (mut edits, mut left_out): (Edits, Vec<String>) = (vec![], vec![]);
    let name = child(root, "name").ok_or_else(|| not_protectable(machine, "its definition has no name".to_owned()))?;
    edits.push((name.range(), format!("<name>{}</name>", escape(to.name))));
    for node in root.children().filter(|n| n.tag_name().namespace() == Some(QEMU_NAMESPACE)) {
        left_out.push(format!("QEMU arguments of its own ({})", node.tag_name().name()));
        edits.push((node.range(), String::new()));
    }
    let devices = child(root, "devices");
    for node in devices.into_iter().flat_map(|d| d.children()).filter(Node::is_element) {
        match node.tag_name().name() {
            "interface" => edits.push((node.range(), card(xml, node, to.network))),
            "serial" | "parallel" | "console" | "channel" => port(node, to, &mut edits, &mut left_out),
            "graphics" => edits.push((node.range(), screen(node))),
            "rng" if child(node, "backend").is_some_and(|b| b.attribute("model") == Some("egd")) => leave(node, &mut edits, &mut left_out),
            "tpm" if child(node, "backend").is_some_and(|b| b.attribute("type") == Some("passthrough")) => leave(node, &mut edits, &mut left_out),
            "memory" if child(node, "source").is_some_and(|s| child(s, "path").is_some()) => leave(node, &mut edits, &mut left_out),
            kind if OF_THE_HOST.contains(&kind) => leave(node, &mut edits, &mut left_out),
            _ => {}
        }
    }
    Ok(Copied { xml: apply(xml, edits), left_out })
}

fn leave(node: Node<'_, '_>, edits: &mut Edits, left_out: &mut Vec<String>) {
    let kind = node.attribute("type").or_else(|| node.attribute("mode")).map(|k| format!(" ({k})")).unwrap_or_default();
    left_out.push(format!("{}{kind}", node.tag_name().name()));
    edits.push((node.range(), String::new()));
}

/// The same card on the isolated network.
fn card(xml: &str, node: Node<'_, '_>, network: &str) -> String {
    let of_host = matches!(node.attribute("type"), Some("hostdev" | "vdpa" | "direct"));
    let keep = |n: &Node<'_, '_>| OF_A_CARD.contains(&n.tag_name().name()) && !(of_host && matches!(n.tag_name().name(), "address" | "driver"));
    let kept: String = node.children().filter(keep).map(|n| &xml[n.range()]).collect();
    let model = if child(node, "model").is_none() { "<model type='virtio'/>" } else { "" };
    format!("<interface type='network'><source network='{}'/>{kept}{model}</interface>", escape(network))
}

/// A screen that only this host can see, at a port of its own.
fn screen(node: Node<'_, '_>) -> String {
    match node.attribute("type") {
        Some(kind @ ("vnc" | "spice")) => format!("<graphics type='{kind}' autoport='yes' listen='127.0.0.1'><listen type='address' address='127.0.0.1'/></graphics>"),
        Some(_) | None => String::new(),
    }
}

/// A serial port or channel whose other end is nobody else's.
fn port(node: Node<'_, '_>, to: &Isolated<'_>, edits: &mut Edits, left_out: &mut Vec<String>) {
    let channel = node.has_tag_name("channel");
    let drop = |names: &[&str], edits: &mut Edits| {
        edits.extend(node.children().filter(|n| names.contains(&n.tag_name().name())).map(|n| (n.range(), String::new())));
    };
    match node.attribute("type").unwrap_or("pty") {
        "null" | "vc" | "spicevmc" | "qemu-vdagent" => drop(&["log"], edits),
        "pty" => drop(&["source", "log"], edits),
        "file" => {
            drop(&["log", "source"], edits);
            let path = attribute(node, "source", "path").unwrap_or_default();
            let file = to.dir.join(format!("{}.{}", to.stem, &hex::encode(Sha256::digest(path))[..8]));
            let end = node.children().next_back().map_or(node.range().end, |last| last.range().end);
            edits.push((end..end, format!("<source path='{}'/>", escape(&file.display().to_string()))));
        }
        // libvirt chooses a path by the machine's name.
        "unix" if channel => drop(&["source", "log"], edits),
        _ if channel => leave(node, edits, left_out),
        _ => {
            edits.extend(node.attributes().find(|a| a.name() == "type").map(|a| (a.range_value(), "pty".to_owned())));
            drop(&["source", "protocol", "log"], edits);
        }
    }
}

/// The host's ends of a running machine's network cards.
///
/// # Errors
/// In words: a card, or something else, that reaches further than the isolated network.
pub(crate) fn taps(xml: &str, network: &str, bridge: &str) -> Result<BTreeSet<String>, String> {
    let document = Document::parse(xml).map_err(|e| format!("its definition can't be read: {e}"))?;
    let root = document.root_element();
    if root.children().any(|n| n.tag_name().namespace() == Some(QEMU_NAMESPACE)) {
        return Err("it was started with QEMU arguments of its own".to_owned());
    }
    let mut taps = BTreeSet::new();
    for node in child(root, "devices").into_iter().flat_map(|d| d.children()) {
        match node.tag_name().name() {
            "interface" => {
                let source = |name: &str| attribute(node, "source", name);
                let mac = attribute(node, "mac", "address").unwrap_or("without an address");
                let ours = source("bridge") == Some(bridge) && source("network").is_none_or(|name| name == network);
                match attribute(node, "target", "dev") {
                    Some(tap) if ours => drop(taps.insert(tap.to_owned())),
                    Some(_) | None => return Err(format!("its network card {mac} is connected to {}", elsewhere(node))),
                }
            }
            kind @ ("hostdev" | "vsock" | "shmem" | "redirdev") => return Err(format!("it has a {kind} of the host")),
            _ => {}
        }
    }
    Ok(taps)
}

fn elsewhere(node: Node<'_, '_>) -> String {
    let source = child(node, "source");
    let named = source.into_iter().flat_map(|s| s.attributes()).map(|a| format!("{} {}", a.name(), a.value()));
    let named = named.collect::<Vec<_>>().join(", ");
    if named.is_empty() { format!("something of type {}", node.attribute("type").unwrap_or("unknown")) } else { named }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails where its sentence does not hold")]
mod tests {
    use super::*;

    const XML: &str = "<domain type='kvm' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
  <name>vm</name>
  <devices>
    <interface type='bridge'><mac address='52:54:00:00:00:01'/><source bridge='prod'/><target dev='vmnic'/><model type='virtio'/><filterref filter='x'/></interface>
    <interface type='hostdev'><mac address='52:54:00:00:00:02'/><source><address type='pci'/></source><address type='pci' slot='5'/></interface>
    <serial type='file'><source path='/var/log/vm.log'/><target port='0'/></serial>
    <console type='file'><source path='/var/log/vm.log'/><target type='serial' port='0'/></console>
    <serial type='tcp'><source mode='bind' host='0.0.0.0' service='9'/><protocol type='raw'/><target port='1'/></serial>
    <channel type='unix'><source mode='bind' path='/run/vm.agent'/><target type='virtio' name='org.qemu.guest_agent.0'/></channel>
    <channel type='tcp'><source host='10.0.0.1' service='7'/><target type='virtio' name='x'/></channel>
    <graphics type='vnc' port='5901' listen='0.0.0.0'/>
    <hostdev mode='subsystem' type='usb'><source/></hostdev>
    <rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>
  </devices>
  <qemu:commandline><qemu:arg value='-netdev'/></qemu:commandline>
</domain>";

    fn copied() -> Copied {
        isolated("vm", XML, &Isolated { name: "vm-test", network: "n", dir: Path::new("/s/vm/test"), stem: "log.t" }).unwrap()
    }

    #[test]
    fn a_copy_has_its_cards_on_the_isolated_network_and_nothing_of_the_host() {
        let Copied { xml, left_out } = copied();
        let log = format!("/s/vm/test/log.t.{}", &hex::encode(Sha256::digest("/var/log/vm.log"))[..8]);
        let expected = format!(
            "<domain type='kvm' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
  <name>vm-test</name>
  <devices>
    <interface type='network'><source network='n'/><mac address='52:54:00:00:00:01'/><model type='virtio'/></interface>
    <interface type='network'><source network='n'/><mac address='52:54:00:00:00:02'/><model type='virtio'/></interface>
    <serial type='file'><target port='0'/><source path='{log}'/></serial>
    <console type='file'><target type='serial' port='0'/><source path='{log}'/></console>
    <serial type='pty'><target port='1'/></serial>
    <channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>
    \n    <graphics type='vnc' autoport='yes' listen='127.0.0.1'><listen type='address' address='127.0.0.1'/></graphics>
    \n    <rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>
  </devices>
  \n</domain>"
        );
        assert_eq!(xml, expected);
        assert_eq!(left_out, ["QEMU arguments of its own (commandline)", "channel (tcp)", "hostdev (usb)"]);
    }

    #[test]
    fn a_card_that_is_connected_elsewhere_is_found_in_what_libvirt_started() {
        let card = |source: &str| format!("<domain><devices><interface type='network'><mac address='m'/><source {source}/><target dev='vnet7'/></interface></devices></domain>");
        assert_eq!(taps(&card("network='n' bridge='b'"), "n", "b").unwrap(), BTreeSet::from(["vnet7".to_owned()]));
        assert!(taps(&card("network='default' bridge='b2'"), "n", "b").unwrap_err().contains("network default, bridge b2"));
        assert!(taps(&card("bridge='prod'"), "n", "b").unwrap_err().contains("bridge prod"));
        assert!(taps(XML, "n", "b").is_err());
    }
}
