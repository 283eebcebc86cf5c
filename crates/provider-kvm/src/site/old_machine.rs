//! The machine that an item had here before: its disks become what a replica lies on, and it is taken from the hypervisor.
//!
//! ```text
//!   find   the newest machine that a recovery started here, else the user's own that is fenced here ─▶ journal
//!   take   undefine, with libvirt's records of checkpoints; disks and bitmaps stay
//!   leave  after a commit here: what a recovery had made goes, the user's own disks stay, and no fence is in force any more
//!   back   after the replica was dropped: the user's own is defined again, off; what a recovery had made goes, unless no point
//!          was ever made on it: then it holds what this site wrote last, and is given back as it was found
//! ```
//!
//! Invariants: 1. Its definition is durable before libvirt forgets it. 2. Its disks are not written from then on. 3. Nothing is
//! taken that runs, or that is not the item's. 4. Disks that were there before us are never removed, nor those of a base on which
//! no point was ever made.

use std::{collections::BTreeMap, path::{Path, PathBuf}};

use chrono::Utc;
use provider::{Disk, FenceMethod, FenceProof, Phase, PowerState, PrepareReplica, ProviderError};
use recovery::ItemName;

use super::{Item, KvmSite};
use crate::{
    definition,
    durable, fenced,
    guard::Right,
    hypervisor::{Hypervisor, Vm},
    machines::{self, MachineRecord},
    qemu,
    replica::StoredBase,
};

/// The item's old machine as a base. Changes nothing.
pub(super) fn find(site: &KvmSite, item: &Item, wanted: &PrepareReplica) -> Result<StoredBase, ProviderError> {
    let host = &site.inner.host;
    let dir = item.store.dir();
    let mut newest = None;
    for (generation, record) in machines::records(dir)? {
        if record.started(dir)?.is_some() {
            newest = Some((generation, record));
        }
    }
    let found = match newest {
        Some((newest, _)) if newest >= wanted.generation => {
            return Err(ProviderError::Superseded { item: wanted.item.clone(), given: wanted.generation, newest });
        }
        Some((_, record)) => recovered(&host.hypervisor, dir, &wanted.item, record)?,
        None => original(site, &wanted.item, &wanted.machine.name)?,
    };
    fitting(found, wanted)
}

/// The base as it is now, if somebody has used it after it was taken and no point lies on it yet.
pub(super) fn used_since(site: &KvmSite, item: &Item, right: &Right<'_>, wanted: &PrepareReplica) -> Result<Option<StoredBase>, ProviderError> {
    let pointless = item.store.describe().is_some_and(|replica| replica.points.is_empty());
    let Some(base) = item.store.old_machine().filter(|_| pointless) else { return Ok(None) };
    take(site, item, right, &base)?;
    let fresh = fitting(StoredBase { marks: vec![], stamps: BTreeMap::new(), ..base.clone() }, wanted)?;
    Ok((fresh != base).then_some(fresh))
}

fn not_fenced(item: &ItemName, machine: &str, detail: String) -> ProviderError {
    ProviderError::NotFenced { item: item.clone(), machine: machine.to_owned(), detail }
}

fn recovered(hypervisor: &Hypervisor, dir: &Path, item: &ItemName, record: MachineRecord) -> Result<StoredBase, ProviderError> {
    let gone = |detail: String| ProviderError::NoOldMachine { item: item.clone(), detail };
    if !record.standalone(dir) {
        return Err(gone(format!("the machine of generation {} still needs points", record.generation)));
    }
    let was_retired = record.retired(dir);
    let definition = match hypervisor.by_uuid(&record.uuid)? {
        Some(vm) if vm.active()? => return Err(not_fenced(item, &vm.name, format!("it is {}", vm.power()?))),
        Some(vm) if vm.persistent()? => vm.definition()?,
        Some(_) | None => record.definition,
    };
    let disks = record.disks.into_iter().map(|(target, name)| (target, dir.join(name))).collect();
    let (stamps, marks, ours) = (BTreeMap::new(), vec![], Some(record.token));
    Ok(StoredBase { name: record.name, uuid: record.uuid, definition, disks, stamps, marks, ours, was_retired })
}

fn original(site: &KvmSite, item: &ItemName, named_at_source: &str) -> Result<StoredBase, ProviderError> {
    let host = &site.inner.host;
    let fenced = fenced(site, item)?;
    let name = fenced.as_deref().unwrap_or(named_at_source);
    let vm = match host.hypervisor.by_name(name) {
        Err(ProviderError::NoSuchMachine { machine }) => {
            let detail = format!("the hypervisor knows no machine {machine}");
            return Err(ProviderError::NoOldMachine { item: item.clone(), detail });
        }
        other => other?,
    };
    if fenced.is_none() {
        return Err(not_fenced(item, name, "no fence is in force here".to_owned()));
    }
    if vm.active()? {
        return Err(not_fenced(item, name, format!("it is {}", vm.power()?)));
    }
    let definition = vm.definition()?;
    if definition::owner(&definition).is_some() {
        let detail = format!("{name} was made by a recovery of which nothing is recorded here");
        return Err(ProviderError::NoOldMachine { item: item.clone(), detail });
    }
    let disks = definition::disks(name, &definition)?.into_iter().map(|d| (d.target, PathBuf::from(d.path))).collect();
    let (stamps, marks) = (BTreeMap::new(), vec![]);
    Ok(StoredBase { name: vm.name.clone(), uuid: vm.uuid, definition, disks, stamps, marks, ours: None, was_retired: false })
}

/// The item's machine at this site that is to stay off: by a fence, or because it was quarantined.
pub(super) fn fenced(site: &KvmSite, item: &ItemName) -> Result<Option<String>, ProviderError> {
    let dir = fenced::dir(&site.inner.host.config.state_dir, item);
    if let Some(record) = fenced::in_force(&dir)? {
        return Ok(Some(record.machine));
    }
    let quarantined = site.inner.source(item).filter(|source| source.status().phase == Phase::Quarantined);
    Ok(quarantined.map(|source| source.wanted().machine))
}

/// Proof that a machine can't write which is the hypervisor's no more: it was retired, or its disks are what a replica lies on.
pub(super) fn gone(site: &KvmSite, item: &Item, machine: &str) -> Result<Option<FenceProof>, ProviderError> {
    let dir = item.store.dir();
    let mut uuids: Vec<String> = item.store.old_machine().filter(|base| base.name == machine).map(|base| base.uuid).into_iter().collect();
    uuids.extend(machines::records(dir)?.into_values().filter(|r| r.name == machine && r.retired(dir)).map(|r| r.uuid));
    let Some(uuid) = uuids.pop() else { return Ok(None) };
    if site.inner.host.hypervisor.by_uuid(&uuid)?.is_some() {
        return Ok(None);
    }
    Ok(Some(FenceProof {
        machine: machine.to_owned(),
        method: FenceMethod::AlreadyOff,
        power: PowerState::Off,
        autostart_off: true,
        observed_at: Utc::now(),
        detail: format!("libvirt does not know {machine} ({uuid}) any more; its disks are kept for the replica"),
    }))
}

/// Refuses disks that are not those of the machine at the source; finds the marks that all of them have.
fn fitting(mut base: StoredBase, wanted: &PrepareReplica) -> Result<StoredBase, ProviderError> {
    let mut marks: Option<Vec<String>> = None;
    let mut have: BTreeMap<&str, u64> = BTreeMap::new();
    for (target, path) in &base.disks {
        if !path.exists() {
            let detail = format!("its disk {target} is not at {}", path.display());
            return Err(ProviderError::NoOldMachine { item: wanted.item.clone(), detail });
        }
        let described = qemu::describe(path)?;
        have.insert(target, described.capacity_bytes);
        base.stamps.insert(target.clone(), durable::stamp(path).map_err(durable::failed("look at", path))?);
        let of_disk = described.marks();
        marks = Some(marks.map_or(of_disk.clone(), |all| all.into_iter().filter(|m| of_disk.contains(m)).collect()));
    }
    let want: BTreeMap<&str, u64> = wanted.machine.disks.iter().map(|d: &Disk| (d.target.as_str(), d.capacity_bytes)).collect();
    if have != want {
        let reason = format!("the old machine has disks of {have:?} bytes, the machine {want:?}");
        return Err(ProviderError::ReplicaMismatch { item: wanted.item.clone(), reason });
    }
    base.marks = marks.unwrap_or_default();
    Ok(base)
}

/// Takes the old machine from the hypervisor, once its journal has it. The caller holds the item.
pub(super) fn take(site: &KvmSite, item: &Item, right: &Right<'_>, base: &StoredBase) -> Result<(), ProviderError> {
    let host = &site.inner.host;
    let dir = item.store.dir();
    if let Some(record) = ours(dir, base)? {
        record.store_retired(dir)?;
    }
    if let Some(vm) = host.hypervisor.by_uuid(&base.uuid)? {
        if vm.active()? {
            return Err(not_fenced(right.item, &vm.name, format!("it is {}", vm.power()?)));
        }
        undefine(&vm, right)?;
    }
    Ok(())
}

/// A machine that was recovered here was accepted: whatever was fenced here before is not there any more, or lies beside it.
pub(super) fn accepted(site: &KvmSite, right: &Right<'_>) -> Result<(), ProviderError> {
    let dir = fenced::dir(&site.inner.host.config.state_dir, right.item);
    if fenced::in_force(&dir)?.is_some() {
        fenced::lift(&dir, right.call.token)?;
    }
    machines::aside_forget(&site.inner.host.config.storage_dir.join(right.item.as_str()))
}

fn undefine(vm: &Vm, right: &Right<'_>) -> Result<(), ProviderError> {
    right.before("undefine")?;
    vm.undefine()
}

/// The record of the machine that a recovery had made.
fn ours(dir: &Path, base: &StoredBase) -> Result<Option<MachineRecord>, ProviderError> {
    Ok(machines::records(dir)?.into_values().find(|r| Some(r.token) == base.ours))
}

/// Removes what a recovery had made of a base that nothing lies on any more; gives it back if nothing ever did.
pub(super) fn leave(site: &KvmSite, item: &Item, right: &Right<'_>) -> Result<(), ProviderError> {
    let dir = item.store.dir();
    if let Some(base) = item.store.leaving_unused() {
        return give_back(&site.inner.host.hypervisor, right, dir, &base);
    }
    let Some(base) = item.store.leaving() else { return Ok(()) };
    let Some(record) = ours(dir, &base)? else { return Ok(()) };
    if let Some(vm) = site.inner.host.hypervisor.by_uuid(&base.uuid)? {
        if vm.active()? {
            return Err(ProviderError::Busy {
                operation: "remove the disks of".to_owned(),
                target: vm.name.clone(),
                detail: "somebody has started the machine that was retired; shut it down first".to_owned(),
            });
        }
        undefine(&vm, right)?;
    }
    record.remove(dir)
}

/// Makes a machine what it was before it became a base on which no point was made.
fn give_back(hypervisor: &Hypervisor, right: &Right<'_>, dir: &Path, base: &StoredBase) -> Result<(), ProviderError> {
    if base.was_retired {
        return Ok(());
    }
    define_again(hypervisor, right, &base.name, &base.uuid, &base.definition)?;
    if let Some(vm) = hypervisor.by_uuid(&base.uuid)?
        && vm.autostart()?
    {
        right.before("set autostart")?;
        vm.set_autostart(false)?;
    }
    match ours(dir, base)? {
        Some(record) => record.remove_retired(dir),
        None => Ok(()),
    }
}

/// After the replica was given up: the user's own old machine is known again, off; what recoveries had made and retired goes.
pub(super) fn back(site: &KvmSite, item: &Item, right: &Right<'_>) -> Result<(), ProviderError> {
    leave(site, item, right)?;
    let dir = item.store.dir();
    let unused = item.store.leaving_unused().and_then(|base| base.ours);
    let mut lives_here = false;
    for record in machines::records(dir)?.into_values() {
        if record.retired(dir) && Some(record.token) != unused {
            record.remove(dir)?;
        } else {
            lives_here |= record.started(dir)?.is_some();
        }
    }
    if lives_here {
        // It was succeeded by a machine that a recovery made here and that stays.
        tracing::info!(item = %right.item, "the old machine's disks stay; nothing of ours needs them");
        return machines::aside_forget(dir);
    }
    machines::aside_back(&site.inner.host.hypervisor, right, dir)?;
    let Some(base) = item.store.leaving().filter(|base| base.ours.is_none()) else { return Ok(()) };
    define_again(&site.inner.host.hypervisor, right, &base.name, &base.uuid, &base.definition)
}

/// Lets the hypervisor know a machine again, off and without autostart.
pub(super) fn define_again(hypervisor: &Hypervisor, right: &Right<'_>, name: &str, uuid: &str, definition: &str) -> Result<(), ProviderError> {
    if hypervisor.by_uuid(uuid)?.is_none() {
        right.before("define")?;
        hypervisor.define(name, definition)?;
    }
    Ok(())
}
