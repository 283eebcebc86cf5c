//! A machine's definition, libvirt's domain XML: what it says about disks, and the same machine elsewhere.
//!
//! Text is changed where it has to be and nowhere else, so what we do not know about passes through. Invariant: a recovered
//! machine's UUID follows from the original one and the generation. libvirt refuses to define or create a second machine of
//! the same name with another UUID, and a handle on a UUID reaches nothing else, so calls of an older generation that come
//! late fail.

mod isolated;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    ops::Range,
};

use provider::{NetworkChoice, ProviderError};
use recovery::{Generation, readiness::MachineNeeds};
use roxmltree::{Document, Node};
use uuid::Uuid;

use crate::hypervisor::escape;
pub(crate) use isolated::{Isolated, isolated, taps};

/// Marks what is ours in libvirt's own records.
const METADATA_NAMESPACE: &str = "urn:switchback:machine:1";

/// A disk as the definition has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DiskDefinition {
    pub(crate) target: String,
    pub(crate) path: String,
    pub(crate) format: String,
}

/// What has to be another than in the original.
#[derive(Debug)]
pub(crate) struct Moved<'a> {
    pub(crate) uuid: &'a str,
    /// Whose it is, for those who find it later: `ITEM TOKEN`.
    pub(crate) owner: &'a str,
    /// Paths by disk target.
    pub(crate) disks: &'a BTreeMap<String, String>,
    pub(crate) network: &'a NetworkChoice,
}

/// The UUID of the machine that is recovered from `original` under a generation.
pub(crate) fn recovered_uuid(original: &str, generation: Generation) -> String {
    let namespace = Uuid::parse_str(original).unwrap_or(Uuid::NAMESPACE_OID);
    Uuid::new_v5(&namespace, generation.to_string().as_bytes()).to_string()
}

/// The UUID of the copy for tests that is made from `original` under a generation.
pub(crate) fn copy_uuid(original: &str, generation: Generation) -> String {
    let namespace = Uuid::parse_str(original).unwrap_or(Uuid::NAMESPACE_OID);
    Uuid::new_v5(&namespace, format!("{generation} test").as_bytes()).to_string()
}

fn parse<'a>(machine: &str, xml: &'a str) -> Result<Document<'a>, ProviderError> {
    Document::parse(xml).map_err(|e| not_protectable(machine, format!("its definition can't be read: {e}")))
}

fn not_protectable(machine: &str, reason: String) -> ProviderError {
    ProviderError::NotProtectable { machine: machine.to_owned(), reason }
}

fn child<'a, 'i>(node: Node<'a, 'i>, name: &str) -> Option<Node<'a, 'i>> {
    node.children().find(|c| c.has_tag_name(name))
}

fn attribute<'a>(node: Node<'a, '_>, element: &str, name: &str) -> Option<&'a str> {
    child(node, element).and_then(|c| c.attribute(name))
}

fn devices<'a, 'i>(document: &'a Document<'i>, kind: &'static str) -> impl Iterator<Item = Node<'a, 'i>> {
    let devices = child(document.root_element(), "devices");
    devices.into_iter().flat_map(|d| d.children()).filter(move |n| n.has_tag_name(kind))
}

/// Whether a device is one on which the machine keeps something.
fn is_disk(node: &Node<'_, '_>) -> bool {
    node.attribute("device").unwrap_or("disk") == "disk" && child(*node, "readonly").is_none()
}

/// The disks to replicate, sorted by target.
///
/// # Errors
/// `DiskNotQcow2`, `NotProtectable`: a disk or the machine is of a kind that can't be replicated.
pub(crate) fn disks(machine: &str, xml: &str) -> Result<Vec<DiskDefinition>, ProviderError> {
    let document = parse(machine, xml)?;
    let uses_nvram = child(document.root_element(), "os").is_some_and(|os| child(os, "nvram").is_some());
    if uses_nvram {
        return Err(not_protectable(machine, "it keeps firmware variables in a file of their own (UEFI)".to_owned()));
    }
    let mut disks = vec![];
    for node in devices(&document, "disk").filter(is_disk) {
        let target = attribute(node, "target", "dev").unwrap_or_default().to_owned();
        let refuse = |reason: String| Err(not_protectable(machine, format!("disk {target} {reason}")));
        let format = attribute(node, "driver", "type").unwrap_or("raw").to_owned();
        if format != "qcow2" {
            return Err(ProviderError::DiskNotQcow2 { machine: machine.to_owned(), disk: target, format });
        }
        if child(node, "shareable").is_some() {
            return refuse("is shared with other machines".to_owned());
        }
        let kind = node.attribute("type").unwrap_or_default();
        let Some(path) = attribute(node, "source", "file").filter(|_| kind == "file") else {
            return refuse(format!("is of type {kind}, not file"));
        };
        if !target.bytes().all(|b| b.is_ascii_alphanumeric()) || target.is_empty() {
            return refuse("has no usable target name".to_owned());
        }
        disks.push(DiskDefinition { target, path: path.to_owned(), format });
    }
    if disks.is_empty() {
        return Err(not_protectable(machine, "it has no disk".to_owned()));
    }
    disks.sort_by(|a, b| a.target.cmp(&b.target));
    Ok(disks)
}

/// The owner that a machine's definition names, if it is one of ours.
pub(crate) fn owner(xml: &str) -> Option<String> {
    let document = Document::parse(xml).ok()?;
    let metadata = child(document.root_element(), "metadata")?;
    let ours = metadata.children().find(|n| n.tag_name().namespace() == Some(METADATA_NAMESPACE))?;
    ours.attribute("owner").map(str::to_owned)
}

/// What a machine takes of its host; nothing if the definition does not say it as libvirt does.
pub(crate) fn needs(xml: &str) -> Option<MachineNeeds> {
    let document = Document::parse(xml).ok()?;
    let text = |name: &str| child(document.root_element(), name).and_then(|n| Some((n.attribute("unit").unwrap_or("KiB"), n.text()?.trim())));
    let (unit, memory) = text("memory")?;
    // As libvirt reads units (domain format, memory allocation).
    let times: u64 = match unit {
        "b" | "bytes" => 1,
        "KB" => 1_000,
        "k" | "KiB" => 1 << 10,
        "MB" => 1_000_000,
        "M" | "MiB" => 1 << 20,
        "GB" => 1_000_000_000,
        "G" | "GiB" => 1 << 30,
        _ => return None,
    };
    let memory_bytes = memory.parse::<u64>().ok()?.checked_mul(times)?;
    let vcpus = text("vcpu").map_or(Some(1), |(_, vcpus)| vcpus.parse().ok())?;
    Some(MachineNeeds { memory_bytes, vcpus })
}

/// What a network card is connected to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Attachment {
    /// A network of libvirt's.
    Network(String),
    /// An interface of the host: a bridge, or what a card lies on.
    Interface(&'static str, String),
}

impl fmt::Display for Attachment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Attachment::Network(name) => write!(f, "network {name}"),
            Attachment::Interface(kind, name) => write!(f, "{kind} {name}"),
        }
    }
}

/// What must be there for the machine's network cards. What a host makes by itself, such as user networking, is not among it.
pub(crate) fn attachments(xml: &str) -> BTreeSet<Attachment> {
    let Ok(document) = Document::parse(xml) else { return BTreeSet::new() };
    let of = |card: Node<'_, '_>| {
        let source = |name: &str| attribute(card, "source", name).map(str::to_owned);
        match card.attribute("type") {
            Some("network") => source("network").map(Attachment::Network),
            Some("bridge") => source("bridge").map(|name| Attachment::Interface("bridge", name)),
            Some("direct") => source("dev").map(|name| Attachment::Interface("interface", name)),
            Some(_) | None => None,
        }
    };
    devices(&document, "interface").filter_map(of).collect()
}

/// What becomes of a machine whose guest has shut down; `destroy` means that it is off.
pub(crate) fn on_poweroff(xml: &str) -> Option<String> {
    let document = Document::parse(xml).ok()?;
    child(document.root_element(), "on_poweroff").and_then(|n| n.text()).map(|text| text.trim().to_owned())
}

/// The same machine with other disks, networks and UUID.
pub(crate) fn moved(machine: &str, xml: &str, to: &Moved<'_>) -> Result<String, ProviderError> {
    let document = parse(machine, xml)?;
    let root = document.root_element();
    let mut edits: Vec<(Range<usize>, String)> = vec![];
    let uuid = child(root, "uuid").ok_or_else(|| not_protectable(machine, "its definition has no UUID".to_owned()))?;
    edits.push((uuid.range(), format!("<uuid>{}</uuid>", escape(to.uuid))));

    let ours = format!("<sb:machine xmlns:sb='{METADATA_NAMESPACE}' owner='{}'/>", escape(to.owner));
    match child(root, "metadata") {
        Some(metadata) => {
            let earlier = metadata.children().filter(|n| n.tag_name().namespace() == Some(METADATA_NAMESPACE));
            edits.extend(earlier.map(|n| (n.range(), String::new())));
            match metadata.children().next_back() {
                Some(last) => edits.push((last.range().end..last.range().end, ours)),
                None => edits.push((metadata.range(), format!("<metadata>{ours}</metadata>"))),
            }
        }
        None => edits.push((uuid.range().end..uuid.range().end, format!("<metadata>{ours}</metadata>"))),
    }

    for node in devices(&document, "disk") {
        edits.extend(child(node, "backingStore").map(|n| (n.range(), String::new())));
        let target = attribute(node, "target", "dev").unwrap_or_default();
        let Some(source) = child(node, "source") else { continue };
        let path = to.disks.get(target).filter(|_| is_disk(&node));
        // Media that is only read stays behind.
        edits.push((source.range(), path.map(|p| format!("<source file='{}'/>", escape(p))).unwrap_or_default()));
    }
    if let NetworkChoice::Renamed(names) = to.network {
        for source in devices(&document, "interface").filter_map(|n| child(n, "source")) {
            let renamed = source.attributes().filter_map(|a| Some((a, names.get(a.value())?)));
            let renamed = renamed.filter(|(a, _)| matches!(a.name(), "bridge" | "network"));
            edits.extend(renamed.map(|(a, name)| (a.range_value(), escape(name))));
        }
    }
    edits.extend(root.children().filter(|n| n.has_tag_name("seclabel")).map(|n| (n.range(), String::new())));
    Ok(apply(xml, edits))
}

/// The text with all edits made; they do not overlap.
fn apply(text: &str, mut edits: Vec<(Range<usize>, String)>) -> String {
    edits.sort_by_key(|(range, _)| (range.start, range.end));
    let mut out = String::with_capacity(text.len() + 256);
    let mut at = 0;
    for (range, with) in edits {
        out.push_str(&text[at..range.start]);
        out.push_str(&with);
        at = range.end;
    }
    out.push_str(&text[at..]);
    out
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails where its sentence does not hold")]
mod tests {
    use super::*;

    const XML: &str = "<domain type='qemu'>
  <name>vm</name>
  <uuid>11111111-1111-4111-8111-111111111111</uuid>
  <os><type>hvm</type></os>
  <devices>
    <disk type='file' device='disk'>
      <driver name='qemu' type='qcow2' cache='none'/>
      <source file='/a/vm &amp; co.qcow2'/>
      <backingStore/>
      <target dev='vda' bus='virtio'/>
    </disk>
    <disk type='file' device='cdrom'>
      <driver name='qemu' type='raw'/>
      <source file='/a/install.iso'/>
      <target dev='sda' bus='sata'/>
      <readonly/>
    </disk>
    <interface type='bridge'><source bridge='prod'/><model type='virtio'/></interface>
  </devices>
  <seclabel type='dynamic'/>
</domain>";

    fn generation(grant_epoch: i64) -> Generation {
        Generation { era: 1, grant_epoch }
    }

    #[test]
    fn what_a_card_is_connected_to_is_told_in_words() {
        let card = |kind: &str, source: &str| format!("<interface type='{kind}'><source {source}/></interface>");
        let cards = [card("bridge", "bridge='prod'"), card("network", "network='default'"), card("direct", "dev='eth0' mode='bridge'"), card("user", ""), card("bridge", "")];
        let xml = format!("<domain><devices>{}</devices></domain>", cards.concat());
        let told: Vec<String> = attachments(&xml).iter().map(ToString::to_string).collect();
        assert_eq!(told, ["network default", "bridge prod", "interface eth0"]);
    }

    #[test]
    fn what_a_machine_takes_is_read_in_every_unit() {
        let of = |memory: &str, vcpu: &str| needs(&format!("<domain><memory{memory}</memory>{vcpu}</domain>"));
        assert_eq!(of(" unit='GiB'>2", "<vcpu placement='static'>4</vcpu>"), Some(MachineNeeds { memory_bytes: 2 << 30, vcpus: 4 }));
        assert_eq!(of(">1048576", ""), Some(MachineNeeds { memory_bytes: 1 << 30, vcpus: 1 }));
        assert_eq!(of(" unit='furlong'>1", ""), None);
        assert_eq!(needs("<domain/>"), None);
    }

    #[test]
    fn a_machine_moves_with_its_disks_and_leaves_its_media_behind() {
        let disks_at_target = BTreeMap::from([("vda".to_owned(), "/b/run'1.qcow2".to_owned())]);
        let uuid = recovered_uuid("11111111-1111-4111-8111-111111111111", generation(2));
        let network = NetworkChoice::Renamed(BTreeMap::from([("prod".to_owned(), "dr".to_owned())]));
        let to = Moved { uuid: &uuid, owner: "vm e1-g2-s1-r1-a1", disks: &disks_at_target, network: &network };
        let moved_xml = moved("vm", XML, &to).unwrap();
        let expected = XML
            .replace("<uuid>11111111-1111-4111-8111-111111111111</uuid>", &format!("<uuid>{uuid}</uuid><metadata><sb:machine xmlns:sb='urn:switchback:machine:1' owner='vm e1-g2-s1-r1-a1'/></metadata>"))
            .replace("<source file='/a/vm &amp; co.qcow2'/>", "<source file='/b/run&apos;1.qcow2'/>")
            .replace("<backingStore/>", "")
            .replace("<source file='/a/install.iso'/>", "")
            .replace("bridge='prod'", "bridge='dr'")
            .replace("<seclabel type='dynamic'/>", "");
        assert_eq!(moved_xml, expected);
        assert_eq!(owner(&moved_xml).as_deref(), Some("vm e1-g2-s1-r1-a1"));
        assert_eq!(owner(XML), None);
        assert_eq!(disks("vm", &moved_xml).unwrap()[0].path, "/b/run'1.qcow2");
        let again = moved("vm", &moved_xml, &Moved { owner: "vm e1-g3-s1-r1-a1", ..to }).unwrap();
        assert_eq!(again.matches("sb:machine").count(), 1);
        assert_eq!(owner(&again).as_deref(), Some("vm e1-g3-s1-r1-a1"));
    }

    #[test]
    fn each_generation_has_a_uuid_of_its_own() {
        let original = "11111111-1111-4111-8111-111111111111";
        assert_eq!(recovered_uuid(original, generation(2)), recovered_uuid(original, generation(2)));
        assert_ne!(recovered_uuid(original, generation(2)), recovered_uuid(original, generation(3)));
    }

    #[test]
    fn what_cannot_be_replicated_is_refused_by_name() {
        let refused = |xml: String| disks("vm", &xml).unwrap_err().code();
        assert_eq!(disks("vm", XML).unwrap()[0].path, "/a/vm & co.qcow2");
        assert_eq!(refused(XML.replace("type='qcow2'", "type='raw'")), "disk_not_qcow2");
        assert_eq!(refused(XML.replace("<backingStore/>", "<shareable/>")), "not_protectable");
        assert_eq!(refused(XML.replace("<disk type='file' device='disk'>", "<disk type='block' device='disk'>")), "not_protectable");
        assert_eq!(refused(XML.replace("<type>hvm</type>", "<nvram>/x</nvram>")), "not_protectable");
        assert_eq!(refused("<domain>".to_owned()), "not_protectable");
    }
}
