//! A guest machine at a site: definition, start, readiness, sudden death.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::Serialize;

use super::record::{Lab, Site};
use super::{accel, join, wait};
use crate::sh;

const HTTP_PORT: u16 = 8080;
const BOOT_PATIENCE: Duration = Duration::from_secs(120);

/// A machine that was started, as `lab guest --json` prints it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Machine {
    pub(crate) name: String,
    pub(crate) site: String,
    pub(crate) uuid: String,
    pub(crate) disk: PathBuf,
    pub(crate) ip: IpAddr,
    /// Reachable from within the site's network.
    pub(crate) http: String,
    pub(crate) qemu_pid: i32,
    pub(crate) boot_ms: u128,
}

/// How a machine is to be made.
pub(crate) struct Wish<'a> {
    pub(crate) name: &'a str,
    /// Address with prefix length, on the site's guest network.
    pub(crate) cidr: &'a str,
    /// Milliseconds between records; 0 for none but those asked for.
    pub(crate) tick_ms: u32,
    /// More words for the kernel's command line; the guest's `init` says which.
    pub(crate) append: &'a str,
}

/// Defines and starts a machine on a fresh disk, and waits until its ledger answers.
pub(crate) fn start(lab: &Lab, site: &Site, wish: &Wish<'_>) -> Result<Machine> {
    let started = Instant::now();
    let ip: IpAddr = wish.cidr.split('/').next().unwrap_or_default().parse().context("--ip takes ADDRESS/BITS")?;
    let disk = site.images.join(format!("{}.qcow2", wish.name));
    if disk.exists() {
        bail!("{} exists: machine {} was already made at {}", disk.display(), wish.name, site.name);
    }
    fs::copy(&lab.guest.disk, &disk)?;
    let definition = site.root.join(format!("{}.xml", wish.name));
    let uuid = uuid(&lab.prefix, wish.name);
    fs::write(&definition, domain_xml(lab, wish, &uuid, &disk.display().to_string())?)?;
    let define = definition.display().to_string();
    virsh(site, &["define", &define])?;
    virsh(site, &["start", wish.name])?;
    let answering = SocketAddr::new(ip, HTTP_PORT);
    wait::until(&format!("boot of {}", wish.name), BOOT_PATIENCE, || join::http_get(&site.netns, answering, "/status"))
        .with_context(|| console(site, wish.name))?;
    Ok(Machine {
        name: wish.name.into(),
        site: site.name.clone(),
        uuid,
        disk,
        ip,
        http: format!("http://{answering}"),
        qemu_pid: qemu_pid(site, wish.name)?.as_raw_pid(),
        boot_ms: started.elapsed().as_millis(),
    })
}

/// SIGKILLs a machine's QEMU and waits until it is gone: the closest thing to pulling the plug.
pub(crate) fn kill(site: &Site, name: &str) -> Result<i32> {
    let pid = qemu_pid(site, name)?;
    let qemu = pidfd_open(pid, PidfdFlags::empty())?;
    pidfd_send_signal(&qemu, Signal::KILL)?;
    wait::until_true("end of QEMU", Duration::from_secs(10), || {
        Ok(matches!(pidfd_send_signal(&qemu, Signal::KILL), Err(rustix::io::Errno::SRCH)))
    })?;
    Ok(pid.as_raw_pid())
}

/// Whether libvirt says that it runs.
pub(crate) fn is_running(site: &Site, name: &str) -> Result<bool> {
    Ok(virsh(site, &["domstate", name])?.trim() == "running")
}

pub(crate) fn qemu_pid(site: &Site, name: &str) -> Result<Pid> {
    let file = site.root.join("run/qemu").join(format!("{name}.pid"));
    let text = fs::read_to_string(&file).with_context(|| format!("machine {name} does not run at {}", site.name))?;
    Pid::from_raw(text.trim().parse()?).context("QEMU's pid file holds no process id")
}

/// Asks libvirt of a site.
pub(crate) fn virsh(site: &Site, args: &[&str]) -> Result<String> {
    sh::output("virsh", &[&["-q", "-c", &site.uri], args].concat())
}

fn console(site: &Site, name: &str) -> String {
    let text = fs::read(site.root.join(format!("log/console-{name}.log"))).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    format!("console of {name} ended with:\n{}", lines[lines.len().saturating_sub(15)..].join("\n"))
}

/// The same lab and name give the same id, so that a machine can be defined again.
fn uuid(prefix: &str, name: &str) -> String {
    let digest = |salt: u64| {
        let start = 0xcbf2_9ce4_8422_2325 ^ salt;
        prefix.bytes().chain(name.bytes()).fold(start, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
    };
    let (high, low) = (digest(0), digest(1));
    let (third, fourth) = (high & 0x0fff, (low >> 48) & 0x3fff | 0x8000);
    format!("{:08x}-{:04x}-8{third:03x}-{fourth:04x}-{:012x}", high >> 32, (high >> 16) & 0xffff, low & 0xffff_ffff_ffff)
}

/// Nothing in the definition names a site, so that the same text starts the machine at another.
fn domain_xml(lab: &Lab, wish: &Wish<'_>, uuid: &str, disk: &str) -> Result<String> {
    let Wish { name, cidr, tick_ms, append } = wish;
    let (kernel, initrd) = (lab.guest.kernel.display(), lab.guest.initrd.display());
    let bridge = super::record::BRIDGE;
    let kind = accel::chosen(&lab.guest)?.domain_type();
    Ok(format!(
        "<domain type='{kind}'>
  <name>{name}</name><uuid>{uuid}</uuid>
  <memory unit='MiB'>160</memory><vcpu>1</vcpu>
  <os>
    <type arch='x86_64' machine='q35'>hvm</type>
    <kernel>{kernel}</kernel><initrd>{initrd}</initrd>
    <cmdline>console=ttyS0 quiet loglevel=4 tsc=reliable no_timer_check random.trust_cpu=on mitigations=off \
vm={name} gip={cidr} tick={tick_ms} {append}</cmdline>
  </os>
  <features><acpi/></features>
  <cpu mode='custom' match='exact'><model fallback='allow'>Nehalem</model></cpu>
  <on_poweroff>destroy</on_poweroff><on_reboot>restart</on_reboot><on_crash>destroy</on_crash>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    <disk type='file' device='disk'>
      <driver name='qemu' type='qcow2' cache='none' discard='unmap'/>
      <source file='{disk}'/><target dev='vda' bus='virtio'/>
    </disk>
    <interface type='bridge'><source bridge='{bridge}'/><model type='virtio'/><rom enabled='no'/></interface>
    <channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>
    <serial type='file'><source path='/var/log/libvirt/console-{name}.log'/></serial>
    <memballoon model='none'/>
  </devices>
</domain>
"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_name_in_the_same_lab_gets_the_same_well_formed_id() {
        let id = uuid("sb12345", "db9");
        assert_eq!(id, uuid("sb12345", "db9"));
        assert_ne!(id, uuid("sb12345", "db8"));
        let lengths: Vec<usize> = id.split('-').map(str::len).collect();
        assert_eq!(lengths, [8, 4, 4, 4, 12], "{id}");
    }
}
