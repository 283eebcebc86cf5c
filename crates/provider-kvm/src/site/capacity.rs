//! What this host has, in all and left, and what machines would take here. Read-only.

use std::{collections::BTreeMap, fs, path::Path, process::Command};

use provider::{Applied, ProviderError};
use recovery::{
    ItemName,
    readiness::{Capacity, MachineNeeds, Networks},
};

use super::KvmSite;
use crate::{definition, durable::failed};

/// Bits of the capabilities that an isolated network takes (capabilities(7)), with their names.
const CAPABILITIES: [(u32, &str); 2] = [(12, "CAP_NET_ADMIN"), (21, "CAP_SYS_ADMIN")];

impl KvmSite {
    pub(super) fn look_at_host(&self) -> Result<Capacity, ProviderError> {
        let host = &self.inner.host;
        let node = host.hypervisor.node()?;
        let storage = &host.config.storage_dir;
        let space = rustix::fs::statvfs(storage).map_err(|e| failed("ask space of", storage)(e.into()))?;
        // What the kernel would give, caches included, is told by the kernel of this host alone.
        let local = host.config.libvirt_uri.contains(":///");
        let available = local.then(|| fs::read_to_string("/proc/meminfo").ok()).flatten().and_then(|text| available_bytes(&text));
        Ok(Capacity {
            memory_bytes: node.memory_bytes,
            free_memory_bytes: available.unwrap_or(node.free_memory_bytes),
            vcpus: node.cpus,
            storage_bytes: space.f_blocks * space.f_frsize,
            free_storage_bytes: space.f_bavail * space.f_frsize,
            needs: self.needs()?,
            not_isolable: not_isolable(),
            networks: self.networks()?,
        })
    }

    /// What machines take: those that would be recovered here, and those that are replicated from here.
    fn needs(&self) -> Result<BTreeMap<ItemName, MachineNeeds>, ProviderError> {
        let host = &self.inner.host;
        let mut needs = BTreeMap::new();
        for item in host.known_items()? {
            let replica = host.item(&item)?.store.describe();
            if let Some(told) = replica.and_then(|replica| definition::needs(&replica.machine.definition.0)) {
                needs.insert(item, told);
            }
        }
        for (item, seen) in self.inner.watch.seen() {
            let source = seen.source.and_then(|source| host.hypervisor.by_name(&source.machine).ok());
            if let Some(told) = source.and_then(|vm| definition::needs(&vm.definition().ok()?)) {
                needs.insert(item, told);
            }
        }
        Ok(needs)
    }

    /// What is missing here of what machines that would be recovered here are connected to.
    fn networks(&self) -> Result<BTreeMap<ItemName, Networks>, ProviderError> {
        let host = &self.inner.host;
        let mut networks = BTreeMap::new();
        for item in host.known_items()? {
            let Some(replica) = host.item(&item)?.store.describe() else { continue };
            let lacking = host.hypervisor.lacking(&replica.machine.definition.0)?;
            if lacking != Networks::default() {
                networks.insert(item, lacking);
            }
        }
        Ok(networks)
    }
}

/// `MemAvailable` of `/proc/meminfo`.
fn available_bytes(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// Why no isolated network can be made and looked into here.
fn not_isolable() -> Option<String> {
    let told = Command::new("ip").arg("-V").output();
    if !told.is_ok_and(|told| told.status.success()) {
        return Some("there is no `ip` (package iproute2)".to_owned());
    }
    let status = fs::read_to_string(Path::new("/proc/self/status")).unwrap_or_default();
    lacking(&status).map(|lacks| format!("the agent lacks {lacks}; let it run as root"))
}

fn lacking(status: &str) -> Option<String> {
    let held = status.lines().find_map(|line| line.strip_prefix("CapEff:")).and_then(|held| u64::from_str_radix(held.trim(), 16).ok())?;
    let lacks: Vec<&str> = CAPABILITIES.iter().filter(|(bit, _)| held & (1 << bit) == 0).map(|(_, name)| *name).collect();
    (!lacks.is_empty()).then(|| lacks.join(" and "))
}

/// What a hypervisor's host has.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Node {
    pub(crate) memory_bytes: u64,
    pub(crate) free_memory_bytes: u64,
    pub(crate) cpus: u32,
}

impl crate::hypervisor::Hypervisor {
    pub(crate) fn node(&self) -> Result<Node, ProviderError> {
        let refused = |error: virt::error::Error| ProviderError::Platform {
            operation: "look at".to_owned(),
            target: "the host".to_owned(),
            detail: error.message().to_owned(),
            applied: Applied::No,
        };
        let connection = self.connect()?;
        let node = connection.node_info().map_err(refused)?;
        let free_memory_bytes = connection.free_memory().map_err(refused)?;
        Ok(Node { memory_bytes: node.memory * 1024, free_memory_bytes, cpus: node.cpus })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_says_is_read() {
        assert_eq!(available_bytes("MemTotal:  10 kB\nMemAvailable:   2048 kB\n"), Some(2_097_152));
        assert_eq!(available_bytes("MemTotal:  10 kB\n"), None);
        assert_eq!(lacking("CapEff:\t000001ffffffffff\n"), None);
        assert_eq!(lacking("CapEff:\t0000000000001000\n"), Some("CAP_SYS_ADMIN".to_owned()));
        assert_eq!(lacking("CapEff:\t0000000000000000\n"), Some("CAP_NET_ADMIN and CAP_SYS_ADMIN".to_owned()));
    }
}
