//! Who starts a replicated machine with its host: the agent, in libvirt's place.
//!
//! libvirt starts what is flagged, whatever has happened elsewhere meanwhile; the agent asks the target first. So while a machine
//! is replicated, libvirt's flag is off and a mark of the agent stands in for it (`autostart-wWRITER.json` beside the loop's
//! record; the greatest writer's counts). "Autostart" without more means the flag or the mark.
//!
//! ```text
//!   what happens                        libvirt's flag       the agent's mark
//!   start_replication, flag on          off, after the mark  made, for this boot of the host
//!   start_replication, flag off         off                  stays as it is
//!   stop_replication                    on, if marked        removed after the flag is on
//!   stop_replication, after the target  off                  stays: only the target can say, at each boot, whether the machine
//!     had a newer generation                                 may run here; a target that has dropped the item lets it start
//!   fence, shut_down                    off                  removed after their record says "had autostart"
//!   lift_fence, the loop has ended      on, if recorded      none
//!   lift_fence, the loop goes on        off                  made, if recorded
//!   shut_down, the guest stays          as before            as before
//!   the target has a newer generation   off                  stays
//!   quarantine                          off                  removed: nobody starts it but a person
//! ```
//!
//! Invariants: 1. At every moment in between, the flag or the mark or the fence's record says that it had autostart. 2. A mark
//! of a late process has a smaller writer and does not count.

use std::{
    fs,
    path::{Path, PathBuf},
};

use provider::ProviderError;
use serde::{Deserialize, Serialize};

use crate::{
    durable::{self, failed},
    hypervisor::Vm,
};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Mark {
    version: u32,
    held: bool,
    /// Replication was stopped after the target had a newer generation: only it can say whether the machine may run here.
    #[serde(default)]
    asking_on: bool,
    /// The boot of the host for which it is decided already.
    boot: String,
}

/// The agent's mark of one machine.
#[derive(Debug, Clone)]
pub(crate) struct Autostart {
    dir: PathBuf,
    writer: i64,
}

impl Autostart {
    /// That of the loop in `dir`, as seen by this writer.
    pub(crate) fn new(dir: PathBuf, writer: i64) -> Self {
        Self { dir, writer }
    }

    fn writer(name: &str) -> Option<i64> {
        name.strip_prefix("autostart-w")?.strip_suffix(".json")?.parse().ok()
    }

    fn path(&self, writer: i64) -> PathBuf {
        self.dir.join(format!("autostart-w{writer}.json"))
    }

    fn read(&self) -> Result<Option<Mark>, ProviderError> {
        let names = durable::names(&self.dir).map_err(failed("list", &self.dir))?;
        let Some(newest) = names.iter().filter_map(|n| Self::writer(n)).max() else { return Ok(None) };
        let path = self.path(newest);
        let content = fs::read(&path).map_err(failed("read", &path))?;
        serde_json::from_slice(&content).map(Some).map_err(|e| failed("read", &path)(e.into()))
    }

    fn store(&self, held: bool, asking_on: bool) -> Result<(), ProviderError> {
        durable::make_dir(&self.dir).map_err(failed("make directory", &self.dir))?;
        let path = self.path(self.writer);
        let json = serde_json::to_vec(&Mark { version: 1, held, asking_on, boot: boot_id()? }).map_err(|e| failed("write", &path)(e.into()))?;
        durable::write(&path, &json).map_err(failed("write", &path))?;
        for name in durable::names(&self.dir).map_err(failed("list", &self.dir))? {
            if Self::writer(&name).is_some_and(|w| w < self.writer) {
                let path = self.dir.join(name);
                durable::remove(&path).map_err(failed("remove", &path))?;
            }
        }
        Ok(())
    }

    /// Whether the agent starts the machine with the host.
    pub(crate) fn held(&self) -> Result<bool, ProviderError> {
        Ok(self.read()?.is_some_and(|mark| mark.held))
    }

    /// Whether it is still to be decided, for this boot of the host, that the machine starts.
    pub(crate) fn due(&self) -> Result<bool, ProviderError> {
        let boot = boot_id()?;
        Ok(self.read()?.is_some_and(|mark| mark.held && mark.boot != boot))
    }

    /// It is decided for this boot of the host.
    pub(crate) fn decided(&self) -> Result<(), ProviderError> {
        match self.read()? {
            Some(mark) if self.due()? => self.store(true, mark.asking_on),
            Some(_) | None => Ok(()),
        }
    }

    /// Takes autostart over from libvirt, if the machine has it.
    pub(crate) fn take(&self, vm: &Vm) -> Result<(), ProviderError> {
        let (flag, mark) = (vm.autostart()?, self.read()?);
        if flag || mark.is_some_and(|mark| mark.held && mark.asking_on) {
            self.hold()?;
        }
        if flag { vm.set_autostart(false) } else { Ok(()) }
    }

    /// Marks the machine as one that starts with the host.
    pub(crate) fn hold(&self) -> Result<(), ProviderError> {
        self.store(true, false)
    }

    /// Replication ends, but the target had a newer generation: the agent goes on to ask before it starts the machine.
    pub(crate) fn ask_on(&self) -> Result<(), ProviderError> {
        if self.held()? { self.store(true, true) } else { Ok(()) }
    }

    /// Gives autostart back to libvirt, if it was taken and the target need not be asked on.
    pub(crate) fn give_back(&self, vm: &Vm) -> Result<(), ProviderError> {
        if self.read()?.is_some_and(|mark| mark.held && !mark.asking_on) {
            if vm.persistent()? {
                vm.set_autostart(true)?;
            }
            self.release()?;
        }
        Ok(())
    }

    /// Removes the mark.
    pub(crate) fn release(&self) -> Result<(), ProviderError> {
        if self.read()?.is_some_and(|mark| mark.held) { self.store(false, false) } else { Ok(()) }
    }
}

/// Names this boot of the host. `SWITCHBACK_BOOT_ID` takes its place in tests.
fn boot_id() -> Result<String, ProviderError> {
    if let Some(id) = std::env::var("SWITCHBACK_BOOT_ID").ok().filter(|id| !id.is_empty()) {
        return Ok(id);
    }
    let path = Path::new("/proc/sys/kernel/random/boot_id");
    fs::read_to_string(path).map(|id| id.trim().to_owned()).map_err(failed("read", path))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails where its sentence does not hold")]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_decided_once_a_boot_and_the_greatest_writers_counts() {
        let dir = tempfile::tempdir().unwrap();
        let (late, now) = (Autostart::new(dir.path().to_owned(), 3), Autostart::new(dir.path().to_owned(), 4));
        assert!(!now.held().unwrap());
        now.hold().unwrap();
        assert!(now.held().unwrap() && !now.due().unwrap(), "a machine that is taken over is there already");
        let earlier = Mark { version: 1, held: true, asking_on: false, boot: "an earlier boot".to_owned() };
        fs::write(now.path(4), serde_json::to_vec(&earlier).unwrap()).unwrap();
        assert!(now.due().unwrap());
        now.decided().unwrap();
        assert!(now.held().unwrap() && !now.due().unwrap());
        now.release().unwrap();
        late.hold().unwrap();
        assert!(!now.held().unwrap() && !late.held().unwrap());
    }
}
