//! From a point to a running machine, and away again.
//!
//! ```text
//!   recover   overlays ─▶ record                                  nothing runs
//!   start     create paused ─▶ checkpoint ─▶ started record ─▶ resume ─▶ define, autostart off
//!   discard   tombstone ─▶ end process ─▶ undefine ─▶ disks ─▶ record
//! ```
//!
//! Each step looks first whether it is done, so the whole may be repeated from the top after any interruption.

use std::{collections::BTreeMap, path::Path};

use chrono::Utc;
use provider::{Applied, Call, Machine, NetworkChoice, PowerState, ProviderError, RecoverMachine, Recovered, RecoveredState, Started};
use recovery::{Generation, ItemName, readiness::Networks};

use super::{aside, records::{MachineRecord, records, store_discarded, sweep}};
use crate::{
    definition::{self, Moved, recovered_uuid},
    durable::{self, failed},
    guard::Right,
    hypervisor::{Created, Hypervisor, Vm},
    qemu,
    replica::ItemStore,
};

/// From it on, what the recovered machine writes is counted.
pub(crate) fn checkpoint_name(generation: Generation) -> String {
    format!("{}{generation}", qemu::FAILOVER_PREFIX)
}

/// Makes throw-away disks and a definition, if the machine could be started from it here. The caller holds the item.
pub(crate) fn recover(hypervisor: &Hypervisor, store: &ItemStore, right: &Right<'_>, wanted: &RecoverMachine) -> Result<Recovered, ProviderError> {
    let RecoverMachine { item, generation, point, network } = wanted;
    let dir = store.dir();
    for (other, record) in records(dir)? {
        if other > *generation {
            return Err(ProviderError::Superseded { item: item.clone(), given: *generation, newest: other });
        }
        let started = record.started(dir)?.is_some();
        if other == *generation && record.point == *point && record.network == *network {
            return Ok(Recovered { token: record.token, point: *point, machine: record.name });
        }
        if record.retired(dir) {
            continue;
        }
        if started && other < *generation {
            return Err(ProviderError::OlderMachine { item: item.clone(), older: other, point: record.point });
        }
        if started {
            return Err(ProviderError::Platform {
                operation: "recover".to_owned(),
                target: item.to_string(),
                detail: format!("generation {generation} already runs, from point {}", record.point),
                applied: Applied::No,
            });
        }
        record.remove(dir)?;
    }
    let (machine, files) = store.point(*point)?;
    let call = right.call;
    connected(hypervisor, &machine, network)?;
    sweep(dir, call.token)?;
    right.before("recover")?;

    let mut disks = BTreeMap::new();
    for (target, file) in &files {
        let name = MachineRecord::disk_name(call.token, target);
        let path = dir.join(&name);
        qemu::create_on(&path, &dir.join(file))?;
        durable::sync_file(&path).map_err(failed("sync", &path))?;
        disks.insert(target.clone(), name);
    }
    durable::sync_dir(dir).map_err(failed("sync", dir))?;
    let record = describe(&machine, call, wanted, disks, dir, network)?;
    record.store(dir)?;
    Ok(Recovered { token: record.token, point: *point, machine: record.name })
}

/// Fails before anything is made if the machine could not be started for want of what its network cards are connected to.
fn connected(hypervisor: &Hypervisor, machine: &Machine, network: &NetworkChoice) -> Result<(), ProviderError> {
    let nowhere = Moved { uuid: &machine.uuid, owner: "", disks: &BTreeMap::new(), network };
    let Networks { missing, .. } = hypervisor.lacking(&definition::moved(&machine.name, &machine.definition.0, &nowhere)?)?;
    if missing.is_empty() {
        return Ok(());
    }
    Err(ProviderError::NoNetwork { machine: machine.name.clone(), missing: missing.into_iter().collect::<Vec<_>>().join(", ") })
}

fn describe(
    machine: &Machine,
    call: &Call,
    wanted: &RecoverMachine,
    disks: BTreeMap<String, String>,
    dir: &Path,
    network: &NetworkChoice,
) -> Result<MachineRecord, ProviderError> {
    let uuid = recovered_uuid(&machine.uuid, wanted.generation);
    let paths = disks.iter().map(|(target, name)| (target.clone(), dir.join(name).display().to_string())).collect();
    let owner = format!("{} {}", wanted.item, call.token);
    let to = Moved { uuid: &uuid, owner: &owner, disks: &paths, network };
    let definition = definition::moved(&machine.name, &machine.definition.0, &to)?;
    Ok(MachineRecord {
        version: MachineRecord::VERSION,
        token: call.token,
        generation: wanted.generation,
        point: wanted.point,
        network: network.clone(),
        name: machine.name.clone(),
        uuid,
        disks,
        definition,
    })
}

/// The record of exactly that generation.
pub(crate) fn of_generation(dir: &Path, item: &ItemName, generation: Generation) -> Result<MachineRecord, ProviderError> {
    let mut all = records(dir)?;
    if let Some((newest, _)) = all.last_key_value().filter(|(newest, _)| **newest > generation) {
        return Err(ProviderError::Superseded { item: item.clone(), given: generation, newest: *newest });
    }
    all.remove(&generation).filter(|r| !r.retired(dir)).ok_or_else(|| ProviderError::NotRecovered { item: item.clone(), generation })
}

/// Powers the machine on. `fenced` names the item's own machine that is fenced here, if one is. The caller holds the item.
pub(crate) fn start(
    hypervisor: &Hypervisor,
    right: &Right<'_>,
    dir: &Path,
    fenced: Option<&str>,
    generation: Generation,
) -> Result<Started, ProviderError> {
    let record = of_generation(dir, right.item, generation)?;
    let vm = running(hypervisor, right, (dir, fenced), &record)?;
    let since = match record.started(dir)? {
        Some(since) => since,
        None => {
            let mark = checkpoint_name(generation);
            if !vm.checkpoints()?.contains(&mark) {
                right.before("checkpoint")?;
                vm.checkpoint(&mark, &record.disks.keys().cloned().collect::<Vec<_>>())?;
            }
            let since = Utc::now();
            record.store_started(dir, since)?;
            since
        }
    };
    if vm.power()? == PowerState::Paused {
        right.before("resume")?;
        vm.resume()?;
    }
    if !vm.persistent()? {
        right.before("define")?;
        hypervisor.define(&record.name, &record.definition)?;
    }
    if vm.autostart()? {
        vm.set_autostart(false)?;
    }
    Ok(Started { token: record.token, point: record.point, machine: record.name, since })
}

/// The machine's process, made if there is none. A new one is paused.
fn running(
    hypervisor: &Hypervisor,
    right: &Right<'_>,
    (dir, fenced): (&Path, Option<&str>),
    record: &MachineRecord,
) -> Result<Vm, ProviderError> {
    if let Some(vm) = hypervisor.by_uuid(&record.uuid)? {
        if !vm.active()? {
            right.before("create")?;
            vm.start_paused()?;
        }
        return Ok(vm);
    }
    right.before("create")?;
    if let Created::Paused(vm) = hypervisor.create_paused(&record.name, &record.definition)? {
        return Ok(vm);
    }
    let in_the_way = hypervisor.by_name(&record.name)?;
    if in_the_way.uuid == record.uuid {
        return Ok(in_the_way);
    }
    // A call of an older generation that came late may have started what was discarded since. Nobody else's machine is touched.
    let owner = definition::owner(&in_the_way.definition()?);
    let late = owner.as_deref().and_then(|o| o.split_once(' ')).and_then(|(_, token)| token.parse::<recovery::EffectToken>().ok());
    let late = late.is_some_and(|token| token.generation() < record.generation);
    let replaced = owner.is_none() && fenced == Some(&in_the_way.name) && !in_the_way.active()?;
    if !late && !replaced {
        return Err(ProviderError::Platform {
            operation: "start".to_owned(),
            target: record.name.clone(),
            detail: format!("this host has another machine of that name, with the UUID {}", in_the_way.uuid),
            applied: Applied::No,
        });
    }
    if replaced {
        aside::put(right, dir, &in_the_way)?;
    } else {
        remove_machine(&in_the_way, right)?;
    }
    match hypervisor.create_paused(&record.name, &record.definition)? {
        Created::Paused(vm) => Ok(vm),
        Created::Exists => Err(ProviderError::Busy {
            operation: "start".to_owned(),
            target: record.name.clone(),
            detail: "a machine of that name has just been started by somebody else".to_owned(),
        }),
    }
}

fn remove_machine(vm: &Vm, right: &Right<'_>) -> Result<(), ProviderError> {
    let processes = vm.processes()?;
    if vm.active()? {
        right.before("destroy")?;
        vm.power_off(&processes)?;
    }
    right.before("undefine")?;
    vm.undefine()
}

/// Removes the machine of a generation with all that it wrote. The caller holds the item.
pub(crate) fn discard(
    hypervisor: &Hypervisor,
    right: &Right<'_>,
    dir: &Path,
    original_uuid: Option<&str>,
    generation: Generation,
) -> Result<(), ProviderError> {
    let record = records(dir)?.remove(&generation);
    // The next replica may be laid on it, as long as there is one; after that it is only a leftover.
    let kept = original_uuid.is_some();
    if let Some(retired) = record.as_ref().filter(|r| kept && r.retired(dir)) {
        return Err(ProviderError::Platform {
            operation: "discard".to_owned(),
            target: retired.name.clone(),
            detail: "it was retired: its disks belong to the next replica".to_owned(),
            applied: Applied::No,
        });
    }
    let uuid = record.as_ref().map(|r| r.uuid.clone()).or_else(|| original_uuid.map(|u| recovered_uuid(u, generation)));
    if record.is_some() || original_uuid.is_some() {
        store_discarded(dir, generation, right.call.token)?;
    }
    if let Some(vm) = uuid.map(|u| hypervisor.by_uuid(&u)).transpose()?.flatten() {
        remove_machine(&vm, right)?;
    }
    if let Some(record) = record {
        record.remove(dir)?;
    }
    aside::back(hypervisor, right, dir)?;
    sweep(dir, right.call.token)
}

/// Takes a machine that is off from the hypervisor and keeps its disks. The caller holds the item.
pub(crate) fn retire(hypervisor: &Hypervisor, right: &Right<'_>, dir: &Path, generation: Generation) -> Result<(), ProviderError> {
    let not_recovered = || ProviderError::NotRecovered { item: right.item.clone(), generation };
    let record = records(dir)?.remove(&generation).ok_or_else(not_recovered)?;
    record.started(dir)?.ok_or_else(not_recovered)?;
    let vm = hypervisor.by_uuid(&record.uuid)?;
    if vm.as_ref().map_or(Ok(false), Vm::active)? {
        return Err(ProviderError::StillRunning { machine: record.name, waited_ms: 0 });
    }
    if let Some(vm) = vm.as_ref().filter(|_| !record.retired(dir)) {
        // As somebody may have changed it since.
        MachineRecord { definition: vm.definition()?, ..record.clone() }.store(dir)?;
    }
    record.store_retired(dir)?;
    if let Some(vm) = vm {
        right.before("undefine")?;
        vm.undefine()?;
    }
    Ok(())
}

/// The recovered machine of that generation, which was started.
pub(crate) fn started(hypervisor: &Hypervisor, dir: &Path, item: &ItemName, generation: Generation) -> Result<Vm, ProviderError> {
    let not_recovered = || ProviderError::NotRecovered { item: item.clone(), generation };
    let record = records(dir)?.remove(&generation).ok_or_else(not_recovered)?;
    record.started(dir)?.ok_or_else(not_recovered)?;
    let gone = || ProviderError::NotServing { machine: record.name.clone(), detail: "it does not run".to_owned() };
    hypervisor.by_uuid(&record.uuid)?.ok_or_else(gone)
}

/// What exists of a generation.
pub(crate) fn observe(hypervisor: &Hypervisor, dir: &Path, generation: Generation) -> Result<RecoveredState, ProviderError> {
    let Some(record) = records(dir)?.remove(&generation) else { return Ok(RecoveredState::Absent) };
    let (token, point) = (record.token, record.point);
    let Some(since) = record.started(dir)? else { return Ok(RecoveredState::Prepared { token, point }) };
    let vm = hypervisor.by_uuid(&record.uuid)?;
    // A start that was interrupted before its last step: libvirt would forget the machine when it stops.
    if let Some(vm) = &vm
        && vm.active()?
        && !vm.persistent()?
    {
        return Ok(RecoveredState::Prepared { token, point });
    }
    let power = vm.map_or(Ok(PowerState::Off), |vm| vm.power())?;
    Ok(RecoveredState::Started { token, point, since, power, standalone: record.standalone(dir) })
}
