//! The map of what differs from the source's last known state: what has to be sent back one day.
//!
//! Blocks that points newer than the recovered one hold, and blocks that the recovered machine has written since it was
//! started. The latter are asked of QEMU, which knows them exactly: its files may lag behind.

use std::sync::atomic::{AtomicU64, Ordering};

use provider::{Applied, ExtentMap, ProviderError, Written};
use recovery::{Generation, ItemName};
use sha2::{Digest, Sha256};

use super::{Item, KvmSite};
use crate::{
    blocks::{BLOCK_BYTES, Blocks, Runs},
    durable,
    extent_map::StoredMap,
    hypervisor::{Backup, EXPORT_BITMAP, Vm},
    machines::{self, MachineRecord},
    nbd::{Client, NbdError},
    qemu,
};

const DIRTY: u32 = 1;
static COUNT: AtomicU64 = AtomicU64::new(0);

/// Computes and keeps the map of a generation; returns the one that is kept already.
pub(super) fn keep(site: &KvmSite, item: &Item, name: &ItemName, generation: Generation) -> Result<ExtentMap, ProviderError> {
    if let Some(kept) = item.store.extent_map(generation)? {
        return Ok(kept);
    }
    let record = live(item, name, generation)?;
    let mut blocks = match written_since_start(site, item, &record) {
        // It lost power. Whatever it has written is in.
        Err(ProviderError::Platform { detail, .. }) => {
            tracing::warn!(item = %name, detail, "what the machine has written is not known; all of its blocks are kept as different");
            everything(item)?
        }
        written => written?,
    };
    for (disk, extents) in item.store.newer_than(record.point)? {
        let newer = Runs::touched(extents.iter().map(|e| (e.offset, e.length)));
        let all = blocks.entry(disk).or_default();
        *all = all.and(&newer);
    }
    let count = blocks.values().map(Runs::count).sum();
    let stored = StoredMap::new(generation, record.point, item.store.newest_mark()?, blocks);
    let content = serde_json::to_vec(&stored).map_err(|e| durable::failed("write extent map in", item.store.dir())(e.into()))?;
    let map = ExtentMap { hash: hex::encode(Sha256::digest(&content)), blocks: count, bytes: count * BLOCK_BYTES };
    item.store.keep_extent_map(generation, &map, &content)?;
    Ok(map)
}

/// Every block of every disk.
fn everything(item: &Item) -> Result<Blocks, ProviderError> {
    let replica = item.store.describe().ok_or_else(|| ProviderError::NoSuchReplica { item: item.store.item().clone() })?;
    Ok(replica.machine.disks.into_iter().map(|d| (d.target, Runs::touched([(0, d.capacity_bytes)]))).collect())
}

/// How much the recovered machine has written since it was first started.
pub(super) fn written(site: &KvmSite, item: &Item, name: &ItemName, generation: Generation) -> Result<Written, ProviderError> {
    let record = live(item, name, generation)?;
    let blocks = written_since_start(site, item, &record)?.values().map(Runs::count).sum();
    Ok(Written { blocks, bytes: blocks * BLOCK_BYTES })
}

/// The machine of a generation, if it was started and is still the hypervisor's.
fn live(item: &Item, name: &ItemName, generation: Generation) -> Result<MachineRecord, ProviderError> {
    let dir = item.store.dir();
    let not_recovered = || ProviderError::NotRecovered { item: name.clone(), generation };
    let record = machines::records(dir)?.remove(&generation).filter(|r| !r.retired(dir)).ok_or_else(not_recovered)?;
    record.started(dir)?.ok_or_else(not_recovered)?;
    Ok(record)
}

fn written_since_start(site: &KvmSite, item: &Item, record: &MachineRecord) -> Result<Blocks, ProviderError> {
    let host = &site.inner.host;
    let mark = machines::checkpoint_name(record.generation);
    if let Some(vm) = host.hypervisor.by_uuid(&record.uuid)?.map_or(Ok(None), |vm| vm.active().map(|active| active.then_some(vm)))? {
        return written_running(site, &vm, record, &mark);
    }
    let of_disk = |(disk, file): (&String, &String)| {
        let written = qemu::written_since(&host.run_dir, &item.store.dir().join(file), &mark)?;
        Ok((disk.clone(), written.ok_or_else(|| lost(&record.name, format!("{file} does not know its changes since {mark}")))?))
    };
    record.disks.iter().map(of_disk).collect()
}

fn lost(machine: &str, detail: String) -> ProviderError {
    ProviderError::Platform { operation: "ask for changes of".to_owned(), target: machine.to_owned(), detail, applied: Applied::No }
}

fn written_running(site: &KvmSite, vm: &Vm, record: &MachineRecord, mark: &str) -> Result<Blocks, ProviderError> {
    let host = &site.inner.host;
    if vm.in_backup() {
        return Err(ProviderError::Busy {
            operation: "ask for changes".to_owned(),
            target: vm.name.clone(),
            detail: "a backup of the machine is running".to_owned(),
        });
    }
    let disks: Vec<String> = record.disks.keys().cloned().collect();
    let stem = format!("map.{}.{}", record.token, COUNT.fetch_add(1, Ordering::SeqCst));
    let socket = host.run_dir.join(format!("m{}.{}", host.guard.writer(), COUNT.fetch_add(1, Ordering::SeqCst)));
    let scratch_dir = host.config.storage_dir.join(".scratch");
    let backup = Backup { disks: &disks, since: Some(mark), mark: None, socket: &socket, scratch_dir: &scratch_dir, scratch_stem: &stem };
    host.guard.about_to("backup");
    host.hypervisor.apart(vm)?.begin_backup(&backup)?;
    let asked = disks.iter().map(|disk| -> Result<(String, Runs), NbdError> {
        let mut client = Client::connect(&socket, disk, Some(&format!("qemu:dirty-bitmap:{EXPORT_BITMAP}")))?;
        let extents = client.extents()?;
        client.disconnect()?;
        Ok((disk.clone(), Runs::touched(extents.iter().filter(|e| e.flags & DIRTY != 0).map(|e| (e.offset, e.length)))))
    });
    let asked: Result<Blocks, NbdError> = asked.collect();
    let ended = vm.end_backup();
    for path in disks.iter().map(|d| backup.scratch(d)).chain([socket.clone()]) {
        durable::remove(&path).map_err(durable::failed("remove", &path))?;
    }
    let asked = asked.map_err(|e| lost(&vm.name, format!("{e}: {:?}", std::error::Error::source(&e))))?;
    ended.map(|()| asked)
}
