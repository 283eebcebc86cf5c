//! What a definition says about the protection of its machine. Pure.

use roxmltree::{Document, Node};

use super::{DiskLook, Finding};

/// What is known of a machine.
pub(super) struct Seen<'a> {
    pub(super) persistent: bool,
    pub(super) snapshots: u32,
    /// As it would be started next time.
    pub(super) definition: &'a str,
    /// As it runs now.
    pub(super) living: Option<&'a str>,
}

type Judged = (Vec<DiskLook>, Vec<Finding>, Vec<Finding>);

const CONVERT: &str = "while the machine is off: `qemu-img convert -O qcow2 OLD NEW.qcow2`, then `virsh edit` the disk to type='file', \
                       driver type='qcow2' and the new path";

/// Disks, obstacles, remarks.
pub(super) fn judge(seen: &Seen<'_>) -> Judged {
    let document = match Document::parse(seen.definition) {
        Ok(document) => document,
        Err(error) => {
            let what = format!("its definition can't be read: {error}");
            return (vec![], vec![finding("unreadable", what, "report it, with `virsh dumpxml`")], vec![]);
        }
    };
    let root = document.root_element();
    let (disks, of_disks) = disks(root);
    let mut obstacles = of_the_machine(root, seen);
    obstacles.extend(of_disks);
    (disks, obstacles, remarks(root, seen))
}

fn finding(code: &'static str, what: impl Into<String>, advice: impl Into<String>) -> Finding {
    Finding { code, what: what.into(), advice: advice.into() }
}

fn child<'a, 'i>(node: Node<'a, 'i>, name: &str) -> Option<Node<'a, 'i>> {
    node.children().find(|c| c.has_tag_name(name))
}

fn devices<'a, 'i>(root: Node<'a, 'i>, kind: &'static str) -> impl Iterator<Item = Node<'a, 'i>> {
    child(root, "devices").into_iter().flat_map(|d| d.children()).filter(move |n| n.has_tag_name(kind))
}

fn attribute<'a>(node: Node<'a, '_>, element: &str, name: &str) -> Option<&'a str> {
    child(node, element).and_then(|c| c.attribute(name))
}

fn disks(root: Node<'_, '_>) -> (Vec<DiskLook>, Vec<Finding>) {
    let (mut disks, mut obstacles) = (vec![], vec![]);
    let kept = |node: &Node<'_, '_>| node.attribute("device").unwrap_or("disk") == "disk" && child(*node, "readonly").is_none();
    for node in devices(root, "disk").filter(kept) {
        let target = attribute(node, "target", "dev").unwrap_or_default().to_owned();
        let kind = node.attribute("type").unwrap_or("file").to_owned();
        let format = attribute(node, "driver", "type").unwrap_or("raw").to_owned();
        let source = child(node, "source");
        let named = ["file", "dev", "name", "volume", "dir"].into_iter().find_map(|name| source?.attribute(name));
        obstacles.extend(of_a_disk(node, &target, &kind, &format));
        disks.push(DiskLook { target, kind, format, source: named.map(str::to_owned), capacity_bytes: None });
    }
    if disks.is_empty() {
        obstacles.push(finding("no-disk", "it has no disk that it could keep anything on", "there is nothing to replicate; protect the machine that holds its data"));
    }
    (disks, obstacles)
}

fn of_a_disk(node: Node<'_, '_>, target: &str, kind: &str, format: &str) -> Option<Finding> {
    if child(node, "shareable").is_some() {
        let what = format!("disk {target} is shared with other machines");
        return Some(finding("shared-disk", what, "a disk that several machines write can't be replicated by one of them: leave it out, or replicate it where it is kept"));
    }
    let what = match (kind, format) {
        ("file", "qcow2") if target.is_empty() || !target.bytes().all(|b| b.is_ascii_alphanumeric()) => {
            return Some(finding("no-target", "a disk has no usable target name", "give it one, such as vda, with `virsh edit`"));
        }
        ("file", "qcow2") => return None,
        ("file", _) => return Some(finding("raw-disk", format!("disk {target} is a {format} file; changes can be counted in qcow2 only"), CONVERT)),
        ("block", _) => ("block-disk", format!("disk {target} is a block device (LVM, partition or LUN)")),
        ("network", _) => {
            let protocol = attribute(node, "source", "protocol").unwrap_or("unknown");
            ("network-disk", format!("disk {target} is reached over the network ({protocol})"))
        }
        ("volume", _) => ("volume-disk", format!("disk {target} is named by storage pool and volume")),
        (other, _) => ("unknown-disk", format!("disk {target} is of type {other}")),
    };
    let (code, what) = what;
    let advice = match code {
        "volume-disk" => format!("if the volume is a qcow2 file, name it by its path: type='file' with `virsh edit`; else {CONVERT}"),
        _ => format!("replicate it where it is kept, or move it into a file: {CONVERT}"),
    };
    Some(finding(code, what, advice))
}

fn of_the_machine(root: Node<'_, '_>, seen: &Seen<'_>) -> Vec<Finding> {
    let mut found = vec![];
    let kind = root.attribute("type").unwrap_or_default();
    if !matches!(kind, "kvm" | "qemu") {
        found.push(finding("not-qemu", format!("it is of type {kind}, not run by QEMU"), "only machines under KVM or QEMU can be protected"));
    }
    if child(root, "os").is_some_and(|os| child(os, "nvram").is_some() || os.attribute("firmware") == Some("efi")) {
        found.push(finding(
            "nvram",
            "it boots by UEFI and keeps firmware variables in a file of their own, which is not replicated",
            "nothing yet: machines with UEFI variables are not supported; install with BIOS, or wait",
        ));
    }
    if seen.snapshots > 0 {
        found.push(finding(
            "snapshots",
            format!("it has {} snapshot(s), beside which changes can't be counted", seen.snapshots),
            "delete or merge them: `virsh snapshot-list`, then `virsh snapshot-delete` or `virsh blockcommit`",
        ));
    }
    if !seen.persistent {
        found.push(finding("transient", "it is transient: when it stops it is gone, and could not be given back", "`virsh dumpxml NAME > NAME.xml`, then `virsh define NAME.xml`"));
    }
    found
}

fn remarks(root: Node<'_, '_>, seen: &Seen<'_>) -> Vec<Finding> {
    let mut found = vec![];
    if let Some(mode @ ("host-passthrough" | "host-model" | "maximum")) = child(root, "cpu").and_then(|cpu| cpu.attribute("mode")) {
        found.push(finding(
            "host-cpu",
            format!("its CPU mode is {mode}: at the other site it will see that host's CPU"),
            "if the hosts differ and the guest minds, choose a named model that both have: `virsh cpu-models`, `virsh hypervisor-cpu-baseline`",
        ));
    }
    let channel = devices(root, "channel").any(|c| attribute(c, "target", "name") == Some("org.qemu.guest_agent.0"));
    let answers = seen.living.and_then(|xml| Document::parse(xml).ok()).is_some_and(|living| {
        let states = devices(living.root_element(), "channel").filter(|c| attribute(*c, "target", "name") == Some("org.qemu.guest_agent.0"));
        states.into_iter().any(|c| attribute(c, "target", "state") == Some("connected"))
    });
    if !channel {
        found.push(finding(
            "no-guest-agent",
            "it has no channel for a guest agent: points are crash-consistent only, and planned shutdowns go by the power button",
            "add the channel org.qemu.guest_agent.0 with `virsh edit` and install qemu-guest-agent in the guest",
        ));
    } else if seen.living.is_some() && !answers {
        found.push(finding("guest-agent-silent", "its guest agent does not answer: points are crash-consistent only", "install and start qemu-guest-agent in the guest"));
    }
    let tied: Vec<&str> = ["hostdev", "tpm", "filesystem", "shmem"].into_iter().filter(|kind| devices(root, kind).next().is_some()).collect();
    if !tied.is_empty() {
        found.push(finding(
            "host-devices",
            format!("it uses devices of this host ({}), whose state is not replicated", tied.join(", ")),
            "see that the other site has the like under the same names, or that the guest does without",
        ));
    }
    let chained = devices(root, "disk").any(|d| child(d, "backingStore").is_some_and(|b| child(b, "source").is_some()));
    if chained {
        found.push(finding("backing-file", "a disk lies on a backing file", "nothing: it is replicated as the guest sees it, as one disk"));
    }
    let mut networks: Vec<&str> = devices(root, "interface").filter_map(|i| child(i, "source")).filter_map(|s| s.attribute("network").or(s.attribute("bridge"))).collect();
    networks.sort_unstable();
    networks.dedup();
    if !networks.is_empty() {
        found.push(finding("networks", format!("it is connected to {}", networks.join(", ")), "networks or bridges of these names must exist at the other site"));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "<domain type='kvm'><name>db</name><os><type>hvm</type></os><cpu mode='custom'/><devices>\
        <disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='/x/db.qcow2'/><target dev='vda'/></disk>\
        <disk type='file' device='cdrom'><driver type='raw'/><source file='/x/i.iso'/><target dev='sda'/><readonly/></disk>\
        <channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel></devices></domain>";

    fn codes(xml: &str, persistent: bool, snapshots: u32) -> (Vec<&'static str>, Vec<&'static str>) {
        let (_, obstacles, remarks) = judge(&Seen { persistent, snapshots, definition: xml, living: None });
        let codes = |found: Vec<Finding>| found.into_iter().map(|f| f.code).collect();
        (codes(obstacles), codes(remarks))
    }

    #[test]
    fn a_plain_machine_on_qcow2_can_be_protected() {
        assert_eq!(codes(GOOD, true, 0), (vec![], vec![]));
    }

    #[test]
    fn what_stands_in_the_way_is_named_one_by_one() {
        let disk = |change: (&str, &str)| codes(&GOOD.replace(change.0, change.1), true, 0).0;
        assert_eq!(disk(("type='qcow2'", "type='raw'")), ["raw-disk"]);
        assert_eq!(disk(("<disk type='file' device='disk'>", "<disk type='block' device='disk'>")), ["block-disk"]);
        assert_eq!(disk(("<disk type='file' device='disk'>", "<disk type='network' device='disk'>")), ["network-disk"]);
        assert_eq!(disk(("<disk type='file' device='disk'>", "<disk type='volume' device='disk'>")), ["volume-disk"]);
        assert_eq!(disk(("<target dev='vda'/>", "<target dev='vda'/><shareable/>")), ["shared-disk"]);
        assert_eq!(disk(("<type>hvm</type>", "<type>hvm</type><nvram>/n</nvram>")), ["nvram"]);
        assert_eq!(disk(("type='kvm'", "type='lxc'")), ["not-qemu"]);
        assert_eq!(codes(GOOD, false, 2).0, ["snapshots", "transient"]);
    }

    #[test]
    fn what_is_worth_knowing_is_no_obstacle() {
        let bare = GOOD.replace("org.qemu.guest_agent.0", "other").replace("custom", "host-passthrough");
        let bare = bare.replace("</devices>", "<interface type='bridge'><source bridge='br0'/></interface><tpm model='tpm-crb'/></devices>");
        assert_eq!(codes(&bare, true, 0), (vec![], vec!["host-cpu", "no-guest-agent", "host-devices", "networks"]));
        let (_, _, remarks) = judge(&Seen { persistent: true, snapshots: 0, definition: GOOD, living: Some(GOOD) });
        assert_eq!(remarks.first().map(|f| f.code), Some("guest-agent-silent"));
    }
}
