//! A machine without an operating system, whose disk is used through QEMU's own device.

use std::{fs, process::Command};

use super::{Place, wait_until};

const BLOCK_BYTES: u64 = 65_536;
/// Of the first disk.
pub const DISK_BYTES: u64 = 16 << 20;
const DISK: &str = "/machine/peripheral/virtio-disk0/virtio-backend";

pub struct Machine {
    place: Place,
    pub name: String,
}

impl Machine {
    /// One that is there already.
    pub fn at(place: &Place, name: &str) -> Self {
        Self { place: place.clone(), name: name.to_owned() }
    }

    /// A new one, off.
    pub fn defined(place: &Place, name: &str, format: &str) -> Self {
        let disk = place.images.join(format!("{name}.{format}"));
        command("qemu-img", &["create", "-q", "-f", format, &disk.display().to_string(), &DISK_BYTES.to_string()]);
        let xml = format!(
            "<domain type='qemu'><name>{name}</name><memory unit='MiB'>32</memory><vcpu>1</vcpu>
             <os><type arch='x86_64' machine='q35'>hvm</type></os><on_poweroff>destroy</on_poweroff>
             <devices><disk type='file' device='disk'><driver name='qemu' type='{format}' cache='none' discard='unmap'/>
             <source file='{}'/><target dev='vda' bus='virtio'/></disk>
             <interface type='bridge'><source bridge='prod'/><model type='virtio'/><rom enabled='no'/></interface><memballoon model='none'/></devices></domain>",
            disk.display()
        );
        let file = place.images.join(format!("{name}.xml"));
        fs::write(&file, xml).expect("the definition is written");
        let machine = Self::at(place, name);
        machine.virsh(&["define", &file.display().to_string()]);
        machine
    }

    /// A new one, running, that starts with its host.
    pub fn running(place: &Place, name: &str, format: &str) -> Self {
        let machine = Self::defined(place, name, format);
        machine.virsh(&["autostart", name]);
        machine.start();
        machine
    }

    fn virsh(&self, args: &[&str]) -> String {
        command("virsh", &[&["-q", "-c", &self.place.uri], args].concat())
    }

    /// What libvirt says it does.
    pub fn state(&self) -> String {
        self.virsh(&["domstate", &self.name]).trim().to_owned()
    }

    pub fn start(&self) {
        self.virsh(&["start", &self.name]);
    }

    /// Gives it a second disk of a size that is no number of blocks; it must be off.
    pub fn add_disk(&self) {
        let disk = self.place.images.join(format!("{}.second.qcow2", self.name)).display().to_string();
        command("qemu-img", &["create", "-q", "-f", "qcow2", &disk, "4095K"]);
        self.virsh(&["attach-disk", &self.name, &disk, "vdb", "--driver", "qemu", "--subdriver", "qcow2", "--config"]);
    }

    /// Fills the last part of its second disk, less than a block.
    pub fn write_end_of_second(&self, content: u8) {
        let second = DISK.replace("disk0", "disk1");
        for what in [format!("write -P {content} 4128768 64512"), "flush".to_owned()] {
            let said = self.virsh(&["qemu-monitor-command", "--hmp", &self.name, &format!("qemu-io -d {second} \"{what}\"")]);
            assert!(said.trim().is_empty(), "{what}: {said}");
        }
    }

    /// Ends its process with SIGKILL and waits until libvirt has noticed.
    pub fn kill(&self) {
        let uuid = self.virsh(&["domuuid", &self.name]).trim().to_owned();
        let pid = fs::read_dir("/proc").expect("/proc is there").find_map(|entry| {
            let name = entry.ok()?.file_name().into_string().ok()?;
            let line = fs::read(format!("/proc/{name}/cmdline")).ok()?;
            let arguments: Vec<&[u8]> = line.split(|b| *b == 0).collect();
            arguments.windows(2).any(|pair| pair[0] == b"-uuid" && pair[1] == uuid.as_bytes()).then_some(name)
        });
        command("kill", &["-9", &pid.expect("the machine has a process")]);
        wait_until("libvirt to notice", || (self.state() == "shut off").then_some(()));
    }

    /// Ends its process as a guest does that has shut down: QEMU closes its disks.
    pub fn stop(&self) {
        self.virsh(&["destroy", "--graceful", &self.name]);
    }

    /// As libvirt would start it.
    pub fn definition(&self) -> String {
        self.virsh(&["dumpxml", "--inactive", "--security-info", &self.name])
    }

    /// Lets libvirt know it.
    pub fn define(&self, definition: &str) {
        let file = self.place.images.join(format!("{}.again.xml", self.name));
        fs::write(&file, definition).expect("the definition is written");
        self.virsh(&["define", &file.display().to_string()]);
    }

    /// Whether libvirt knows it.
    pub fn is_known(&self) -> bool {
        self.virsh(&["list", "--all", "--name"]).lines().any(|line| line.trim() == self.name)
    }

    /// Whether it starts with its host.
    pub fn autostarts(&self) -> bool {
        self.virsh(&["list", "--all", "--name", "--autostart"]).lines().any(|line| line.trim() == self.name)
    }

    /// Where its first disk lies.
    pub fn disk(&self) -> std::path::PathBuf {
        self.disk_at("vda")
    }

    /// Where the disk of that name lies.
    pub fn disk_at(&self, target: &str) -> std::path::PathBuf {
        let listed = self.virsh(&["domblklist", "--inactive", &self.name]);
        let line = listed.lines().find_map(|line| line.trim().strip_prefix(target));
        line.expect("the machine has that disk").trim().into()
    }

    /// Fills a block, as a driver in the machine would, and lets nothing linger in caches.
    pub fn write(&self, block: u64, content: u8) {
        self.device(&format!("write -P {content} {} {BLOCK_BYTES}", block * BLOCK_BYTES));
        self.device("flush");
    }

    /// The byte that fills a block.
    pub fn read(&self, block: u64) -> u8 {
        // QEMU prints what it reads to its own output, which libvirt keeps.
        let log = self.place.root.join("log/qemu").join(format!("{}.log", self.name));
        let before = fs::read(&log).expect("the machine has a log").len();
        self.device(&format!("read -v {} {BLOCK_BYTES}", block * BLOCK_BYTES));
        let said = wait_until("QEMU to print what it read", || {
            let said = fs::read(&log).expect("the machine has a log").split_off(before);
            let said = String::from_utf8_lossy(&said).into_owned();
            said.contains("read 65536/65536 bytes").then_some(said)
        });
        let mut bytes: Vec<u8> = vec![];
        for line in said.lines() {
            let Some((_, hex)) = line.split_once(":  ").filter(|(address, _)| address.len() == 8) else { continue };
            bytes.extend(hex.split_whitespace().take(16).filter_map(|b| u8::from_str_radix(b, 16).ok()));
        }
        let first = *bytes.first().expect("QEMU printed bytes");
        assert!(bytes.len() as u64 == BLOCK_BYTES && bytes.iter().all(|b| *b == first), "block {block} is mixed");
        first
    }

    fn device(&self, what: &str) {
        let said = self.virsh(&["qemu-monitor-command", "--hmp", &self.name, &format!("qemu-io -d {DISK} \"{what}\"")]);
        assert!(said.trim().is_empty(), "{what}: {said}");
    }

    /// Takes it away with everything that libvirt knows of it, whatever state it is in.
    pub fn remove(&self) {
        let run = |args: &[&str]| Command::new("virsh").args(["-q", "-c", &self.place.uri]).args(args).output().map(drop);
        let removed = run(&["destroy", &self.name]).and_then(|()| run(&["undefine", "--checkpoints-metadata", &self.name]));
        if let Err(error) = removed {
            eprintln!("{} stays until the lab goes: {error}", self.name);
        }
    }
}

fn command(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().expect("the program can be started");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {args:?}: {said}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}
