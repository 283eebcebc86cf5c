//! The map of what differs from the source's last known state: what has to be sent back one day.
//!
//! Blocks that points newer than the recovered one hold, and blocks that the recovered machine has written since it was
//! started. The latter are asked of QEMU, which knows them exactly: its files may lag behind.

use std::{collections::BTreeMap, collections::BTreeSet, sync::atomic::{AtomicU64, Ordering}};

use provider::{ExtentMap, ProviderError};
use recovery::{Generation, ItemName, PointId};
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::{Item, KvmSite};
use crate::{
    durable,
    hypervisor::{Backup, EXPORT_BITMAP, Vm},
    machines::{self, MachineRecord},
    nbd::{Client, NbdError},
    qemu::{Access, Served},
};

const BLOCK_BYTES: u64 = 65_536;
const DIRTY: u32 = 1;
static COUNT: AtomicU64 = AtomicU64::new(0);

/// By disk, the numbers of its blocks.
type Blocks = BTreeMap<String, BTreeSet<u64>>;

#[derive(Serialize)]
struct StoredMap<'a> {
    version: u32,
    generation: Generation,
    point: PointId,
    block_bytes: u64,
    /// By disk, runs of blocks: first and how many.
    disks: BTreeMap<&'a str, Vec<(u64, u64)>>,
}

/// Computes and keeps the map of a generation; returns the one that is kept already.
pub(super) fn keep(site: &KvmSite, item: &Item, name: &ItemName, generation: Generation) -> Result<ExtentMap, ProviderError> {
    if let Some(kept) = item.store.extent_map(generation)? {
        return Ok(kept);
    }
    let dir = item.store.dir();
    let record = machines::records(dir)?.remove(&generation);
    let not_recovered = || ProviderError::NotRecovered { item: name.clone(), generation };
    let record = record.ok_or_else(not_recovered)?;
    record.started(dir)?.ok_or_else(not_recovered)?;

    let mut blocks = Blocks::new();
    for (disk, extents) in item.store.newer_than(record.point)? {
        for extent in extents {
            add(&mut blocks, &disk, extent.offset, extent.length);
        }
    }
    written_since_start(site, item, &record, &mut blocks)?;

    let stored = StoredMap { version: 1, generation, point: record.point, block_bytes: BLOCK_BYTES, disks: runs(&blocks) };
    let content = serde_json::to_vec(&stored).map_err(|e| durable::failed("write extent map in", dir)(e.into()))?;
    let count = blocks.values().map(|b| b.len() as u64).sum();
    let map = ExtentMap { hash: hex::encode(Sha256::digest(&content)), blocks: count, bytes: count * BLOCK_BYTES };
    item.store.keep_extent_map(generation, &map, &content)?;
    Ok(map)
}

fn add(blocks: &mut Blocks, disk: &str, offset: u64, length: u64) {
    let end = (offset + length).div_ceil(BLOCK_BYTES);
    blocks.entry(disk.to_owned()).or_default().extend(offset / BLOCK_BYTES..end);
}

fn runs(blocks: &Blocks) -> BTreeMap<&str, Vec<(u64, u64)>> {
    let of_disk = |blocks: &BTreeSet<u64>| {
        let mut runs: Vec<(u64, u64)> = vec![];
        for block in blocks {
            match runs.last_mut() {
                Some((first, count)) if *first + *count == *block => *count += 1,
                Some(_) | None => runs.push((*block, 1)),
            }
        }
        runs
    };
    blocks.iter().map(|(disk, blocks)| (disk.as_str(), of_disk(blocks))).collect()
}

fn written_since_start(site: &KvmSite, item: &Item, record: &MachineRecord, blocks: &mut Blocks) -> Result<(), ProviderError> {
    let host = &site.inner.host;
    let mark = machines::checkpoint_name(record.generation);
    match host.hypervisor.by_uuid(&record.uuid)? {
        Some(vm) if vm.active()? => written_running(site, &vm, record, &mark, blocks),
        Some(_) | None => {
            for (disk, file) in &record.disks {
                let mut served = Served::open(&host.run_dir, &item.store.dir().join(file), Access::Read, Some(&mark))?;
                let extents = served.client()?.extents();
                let extents = extents.map_err(|e| served.error(&e))?;
                for extent in extents.iter().filter(|e| e.flags & DIRTY != 0) {
                    add(blocks, disk, extent.offset, extent.length);
                }
            }
            Ok(())
        }
    }
}

fn written_running(site: &KvmSite, vm: &Vm, record: &MachineRecord, mark: &str, blocks: &mut Blocks) -> Result<(), ProviderError> {
    let host = &site.inner.host;
    let disks: Vec<String> = record.disks.keys().cloned().collect();
    let stem = format!("map.{}.{}", record.token, COUNT.fetch_add(1, Ordering::SeqCst));
    let socket = host.run_dir.join(format!("m{}.{}", host.guard.writer(), COUNT.fetch_add(1, Ordering::SeqCst)));
    let scratch_dir = host.config.storage_dir.join(".scratch");
    let backup = Backup { disks: &disks, since: Some(mark), mark: None, socket: &socket, scratch_dir: &scratch_dir, scratch_stem: &stem };
    host.guard.about_to("backup");
    vm.begin_backup(&backup)?;
    let asked = disks.iter().try_for_each(|disk| -> Result<(), NbdError> {
        let mut client = Client::connect(&socket, disk, Some(&format!("qemu:dirty-bitmap:{EXPORT_BITMAP}")))?;
        for extent in client.extents()?.iter().filter(|e| e.flags & DIRTY != 0) {
            add(blocks, disk, extent.offset, extent.length);
        }
        client.disconnect()
    });
    let ended = vm.end_backup();
    for path in disks.iter().map(|d| backup.scratch(d)).chain([socket.clone()]) {
        durable::remove(&path).map_err(durable::failed("remove", &path))?;
    }
    asked.map_err(|e| ProviderError::Platform {
        operation: "ask for changes of".to_owned(),
        target: vm.name.clone(),
        detail: format!("{e}: {:?}", std::error::Error::source(&e)),
        applied: provider::Applied::No,
    })?;
    ended
}
