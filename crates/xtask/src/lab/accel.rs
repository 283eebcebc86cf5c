//! Emulation or hardware: decided by booting a guest, because nothing less tells the truth.
//!
//! A device `/dev/kvm` that opens and even makes a virtual processor may still be unable to run a stock kernel (nested
//! machines, some cloud hosts). Emulation always works, boots our guest in seconds, and is therefore what is used unless
//! `SWITCHBACK_GUEST_ACCEL` says `kvm` or `probe`.

use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Result, bail};

use super::wait;
use crate::guest::Guest;

/// A guest that is not up by then would spoil every test that needs one.
const PROBE_PATIENCE: Duration = Duration::from_secs(15);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Accel {
    Emulated,
    Hardware,
}

impl Accel {
    /// libvirt's word for it.
    pub(crate) fn domain_type(self) -> &'static str {
        match self {
            Self::Emulated => "qemu",
            Self::Hardware => "kvm",
        }
    }
}

pub(crate) fn chosen(guest: &Guest) -> Result<Accel> {
    match std::env::var("SWITCHBACK_GUEST_ACCEL").as_deref() {
        Err(_) | Ok("tcg") => Ok(Accel::Emulated),
        Ok("kvm") => Ok(Accel::Hardware),
        Ok("probe") => Ok(if boots_with_hardware(guest)? { Accel::Hardware } else { Accel::Emulated }),
        Ok(other) => bail!("SWITCHBACK_GUEST_ACCEL is {other:?}; it takes tcg, kvm or probe"),
    }
}

fn boots_with_hardware(guest: &Guest) -> Result<bool> {
    let log = std::env::temp_dir().join(format!("switchback-probe-{}.log", std::process::id()));
    let serial = format!("file:{}", log.display());
    let mut command = Command::new("qemu-system-x86_64");
    command.args(["-accel", "kvm", "-machine", "q35", "-cpu", "Nehalem", "-m", "160", "-display", "none", "-no-reboot"]);
    command.args(["-append", "console=ttyS0 quiet tick=0", "-serial", &serial, "-nodefaults"]);
    command.arg("-kernel").arg(&guest.kernel).arg("-initrd").arg(&guest.initrd);
    let mut qemu = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let up = wait::until_true("boot with hardware", PROBE_PATIENCE, || {
        if qemu.try_wait()?.is_some() {
            bail!("QEMU gave up");
        }
        Ok(std::fs::read(&log).is_ok_and(|text| String::from_utf8_lossy(&text).contains("APP-READY")))
    });
    if qemu.try_wait()?.is_none() {
        qemu.kill()?;
        qemu.wait()?;
    }
    std::fs::remove_file(&log).or_else(|error| if log.exists() { Err(error) } else { Ok(()) })?;
    Ok(up.is_ok())
}
