//! Copies for tests: machines made from points beside replication, in a directory and on a network of their own.
//!
//! ```text
//!   ITEM/test/copy.TOKEN.json    first: the point that is read from here on, then what the copy lacks
//!   ITEM/test/run.TOKEN.vda.qcow2 ─▶ ../pN…      machine.TOKEN.json, started.TOKEN.json, log.TOKEN.… as for recovered machines
//!   STATE/test/ITEM/GENERATION.TOKEN   what was made up to that generation under a smaller token is garbage, whenever it appears
//!
//!   recover   "reads point N" ─▶ overlays ─▶ record                       nothing runs
//!   start     network ─▶ proof ─▶ create paused ─▶ proof ─▶ started record ─▶ resume
//!   clean     bar ─▶ probe ─▶ machine ─▶ network, bridge (a shared one with the last copy) ─▶ files
//! ```
//!
//! Invariants: 1. A copy's machine is never stored in libvirt: it does not outlive its host's boot. 2. Its first instruction runs
//! after the second proof. 3. `recover`, `discard` and the sweep of recovered machines do not look into `test`, and nothing here
//! looks out of it but at points. 4. A point is read only under a record that pruning respects, and the record is older than the
//! look at the point's files.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::TcpStream,
    path::{Path, PathBuf},
};

use chrono::Utc;
use provider::{Applied, Isolation, NetworkChoice, PowerState, ProviderError, RecoverTest, Recovered, RecoveredState, TestStarted};
use recovery::{Check, EffectToken, Generation, ItemName};
use sha2::{Digest, Sha256};

use super::{
    isolation::{self, Names, Whose},
    kept_copies::{Bar, Copy, bars, directory, is_late, read_bars, sweep_copies, token_of},
    probe::{self, Cable, Room},
    records::{self, MachineRecord},
    shared::{self, Networks},
};
use crate::{
    definition::{self, Isolated, Moved},
    durable::{self, failed},
    guard::{Guard, Right},
    hypervisor::{Created, Hypervisor, Vm},
    qemu,
    replica::ItemStore,
};

/// Ends the owner of a copy's machine, `ITEM TOKEN test`, so that it is never taken for a recovered one.
const OWNER_END: &str = " test";
/// libvirt makes file names of it, with ends of its own.
const MAX_NAME: usize = 60;

/// One item's copies.
#[derive(Debug)]
pub(crate) struct Copies<'a> {
    hypervisor: &'a Hypervisor,
    networks: &'a Networks,
    item: &'a ItemName,
    dir: PathBuf,
    bars: PathBuf,
}

/// Whether a machine with that owner is a copy's.
pub(crate) fn owns_copy(owner: &str) -> bool {
    owner.ends_with(OWNER_END)
}

/// Whose copy a machine with that definition is, and what it was made under.
pub(super) fn owner_of_copy(xml: &str) -> Option<(ItemName, EffectToken)> {
    let owner = definition::owner(xml)?;
    let (item, token) = owner.strip_suffix(OWNER_END)?.split_once(' ')?;
    Some((item.parse().ok()?, token.parse().ok()?))
}

fn copy_name(machine: &str) -> String {
    let name = format!("{machine}-test");
    if name.len() <= MAX_NAME {
        return name;
    }
    let start: String = machine.chars().take(40).collect();
    format!("{start}-{}-test", &hex::encode(Sha256::digest(machine))[..8])
}

impl<'a> Copies<'a> {
    pub(crate) fn of(hypervisor: &'a Hypervisor, guard: &Guard, networks: &'a Networks, item: &'a ItemName, item_dir: &Path) -> Self {
        Self { hypervisor, networks, item, dir: directory(item_dir), bars: bars(guard, item) }
    }

    /// The copies that are not garbage.
    fn records(&self) -> Result<Vec<MachineRecord>, ProviderError> {
        let bars = read_bars(&self.bars)?;
        Ok(records::records(&self.dir)?.into_values().filter(|r| !is_late(&bars, r.token)).collect())
    }

    fn of_generation(&self, generation: Generation) -> Result<MachineRecord, ProviderError> {
        let found = self.records()?.into_iter().find(|r| r.generation == generation);
        found.ok_or_else(|| ProviderError::NotRecovered { item: self.item.clone(), generation })
    }

    /// Makes throw-away disks and a definition. The caller holds the item.
    pub(crate) fn recover(&self, store: &ItemStore, right: &Right<'_>, wanted: &RecoverTest) -> Result<Recovered, ProviderError> {
        let RecoverTest { item, generation, point, network } = wanted;
        for record in self.records()? {
            let (other, started) = (record.generation, record.started(&self.dir)?.is_some());
            if other > *generation {
                return Err(ProviderError::Superseded { item: item.clone(), given: *generation, newest: other });
            }
            if other < *generation {
                return Err(ProviderError::TestCopyExists { item: item.clone(), existing: other });
            }
            if record.point == *point && self.copy(record.token)?.network == *network {
                return Ok(Recovered { token: record.token, point: *point, machine: record.name });
            }
            if started {
                return Err(ProviderError::Platform {
                    operation: "copy".to_owned(),
                    target: item.to_string(),
                    detail: format!("the copy of generation {generation} already runs, from point {}", record.point),
                    applied: Applied::No,
                });
            }
            self.remove_files(record.token)?;
        }
        durable::make_dir(&self.dir).map_err(failed("make directory", &self.dir))?;
        sweep_copies(store.dir(), right.guard, self.item, right.call.token)?;
        let made = self.make(store, right, wanted);
        if made.is_err() {
            self.remove_files(right.call.token)?;
            self.remove_dir()?;
        }
        made
    }

    fn make(&self, store: &ItemStore, right: &Right<'_>, wanted: &RecoverTest) -> Result<Recovered, ProviderError> {
        let RecoverTest { item, generation, point, network } = wanted;
        let token = right.call.token;
        let mut copy = Copy { version: 1, generation: *generation, point: *point, left_out: vec![], network: network.clone() };
        self.store_copy(token, &copy)?;
        let (machine, files) = store.point(*point)?;
        right.before("recover")?;
        let mut disks = BTreeMap::new();
        for (target, file) in &files {
            let name = MachineRecord::disk_name(token, target);
            let path = self.dir.join(&name);
            qemu::create_above(&path, Path::new(file))?;
            durable::sync_file(&path).map_err(failed("sync", &path))?;
            disks.insert(target.clone(), name);
        }
        durable::sync_dir(&self.dir).map_err(failed("sync", &self.dir))?;

        let (uuid, name) = (definition::copy_uuid(&machine.uuid, *generation), copy_name(&machine.name));
        let owner = format!("{item} {token}{OWNER_END}");
        let paths = disks.iter().map(|(target, name)| (target.clone(), self.dir.join(name).display().to_string())).collect();
        let to = Moved { uuid: &uuid, owner: &owner, disks: &paths, network: &NetworkChoice::AsDefined };
        let moved = definition::moved(&machine.name, &machine.definition.0, &to)?;
        let names = Names::of(item, *generation, network.as_ref());
        let to = Isolated { name: &name, network: &names.network, dir: &self.dir, stem: &format!("log.{token}") };
        let copied = definition::isolated(&machine.name, &moved, &to)?;
        copy.left_out = copied.left_out;
        self.store_copy(token, &copy)?;
        let record = MachineRecord {
            version: MachineRecord::VERSION,
            token,
            generation: *generation,
            point: *point,
            network: NetworkChoice::AsDefined,
            name,
            uuid,
            disks,
            definition: copied.xml,
        };
        record.store(&self.dir)?;
        Ok(Recovered { token, point: *point, machine: record.name })
    }

    fn copy_file(&self, token: EffectToken) -> PathBuf {
        self.dir.join(format!("copy.{token}.json"))
    }

    fn store_copy(&self, token: EffectToken, copy: &Copy) -> Result<(), ProviderError> {
        let path = self.copy_file(token);
        let json = serde_json::to_vec(copy).map_err(|e| failed("write", &path)(e.into()))?;
        durable::write(&path, &json).map_err(failed("write", &path))
    }

    fn copy(&self, token: EffectToken) -> Result<Copy, ProviderError> {
        let path = self.copy_file(token);
        let content = fs::read(&path).map_err(failed("read", &path))?;
        serde_json::from_slice(&content).map_err(|e| failed("read", &path)(e.into()))
    }

    fn names(&self, record: &MachineRecord) -> Result<Names, ProviderError> {
        Ok(Names::of(self.item, record.generation, self.copy(record.token)?.network.as_ref()))
    }

    /// Proves that the network is isolated and powers the copy on. The caller holds the item.
    pub(crate) fn start(&self, right: &Right<'_>, generation: Generation) -> Result<TestStarted, ProviderError> {
        let record = self.of_generation(generation)?;
        let Copy { left_out, network, .. } = self.copy(record.token)?;
        let names = Names::of(self.item, generation, network.as_ref());
        let alone = network.is_some().then(|| self.networks.alone());
        let ends = match (&network, self.storage()) {
            (Some(shared), Some(storage)) => shared::ends_on(shared, right.guard, storage)?,
            (None, _) | (_, None) => BTreeSet::new(),
        };
        let (vm, proof) = self.isolated(right, &record, &names, &ends)?;
        drop(alone);
        let since = record.started(&self.dir)?.unwrap_or_else(Utc::now);
        record.store_started(&self.dir, since)?;
        if vm.power()? == PowerState::Paused {
            if let Err(late) = right.before("resume") {
                self.end(&vm)?;
                return Err(late);
            }
            vm.resume()?;
        }
        let left_out = if left_out.is_empty() { String::new() } else { format!("; left out of the copy: {}", left_out.join(", ")) };
        let isolation = Isolation { network: names.network, detail: format!("{proof}{left_out}"), observed_at: Utc::now() };
        Ok(TestStarted { point: record.point, machine: record.name, since, isolation })
    }

    /// The copy's process, paused unless it ran, on a network that was seen to be isolated with it.
    fn isolated(&self, right: &Right<'_>, record: &MachineRecord, names: &Names, ends: &BTreeSet<String>) -> Result<(Vm, String), ProviderError> {
        let there = self.hypervisor.by_uuid(&record.uuid)?;
        isolation::ensure(self.hypervisor, right, names)?;
        if there.is_none() {
            isolation::prove(self.hypervisor, names, None, ends.clone())?;
        }
        let vm = match there {
            Some(vm) => vm,
            None => self.create(right, record)?,
        };
        match isolation::prove(self.hypervisor, names, Some(&vm), ends.clone()) {
            Ok(proof) => Ok((vm, proof)),
            Err(error) => {
                self.end(&vm)?;
                Err(error)
            }
        }
    }

    /// The copy's process, paused.
    fn create(&self, right: &Right<'_>, record: &MachineRecord) -> Result<Vm, ProviderError> {
        right.before("create")?;
        if let Created::Paused(vm) = self.hypervisor.create_paused(&record.name, &record.definition)? {
            return Ok(vm);
        }
        let in_the_way = self.hypervisor.by_name(&record.name)?;
        if !self.is_copy(&in_the_way, record.generation)? {
            return Err(ProviderError::Platform {
                operation: "start".to_owned(),
                target: record.name.clone(),
                detail: format!("this host has another machine of that name, with the UUID {}", in_the_way.uuid),
                applied: Applied::No,
            });
        }
        self.end(&in_the_way)?;
        match self.hypervisor.create_paused(&record.name, &record.definition)? {
            Created::Paused(vm) => Ok(vm),
            Created::Exists => Err(ProviderError::Busy {
                operation: "start".to_owned(),
                target: record.name.clone(),
                detail: "a machine of that name has just been started by somebody else".to_owned(),
            }),
        }
    }

    /// Whether it is a copy of this item, up to that generation.
    fn is_copy(&self, vm: &Vm, generation: Generation) -> Result<bool, ProviderError> {
        let owner = owner_of_copy(&vm.definition()?);
        Ok(owner.is_some_and(|(item, token)| item == *self.item && token.generation() <= generation))
    }

    /// Ends a copy's process, and with it libvirt's knowledge of it.
    fn end(&self, vm: &Vm) -> Result<(), ProviderError> {
        let processes = vm.processes()?;
        if vm.active()? {
            vm.power_off(&processes)?;
        }
        if self.hypervisor.by_uuid(&vm.uuid)?.is_some_and(|left| left.persistent().unwrap_or(false)) { vm.undefine() } else { Ok(()) }
    }

    /// The running copy, with its record.
    fn running(&self, generation: Generation) -> Result<(MachineRecord, Vm), ProviderError> {
        let record = self.of_generation(generation)?;
        let vm = self.hypervisor.by_uuid(&record.uuid)?;
        let power = vm.as_ref().map_or(Ok(PowerState::Off), Vm::power)?;
        if record.started(&self.dir)?.is_none() {
            return Err(ProviderError::NotRecovered { item: self.item.clone(), generation });
        }
        match vm {
            Some(vm) if power == PowerState::Running => Ok((record, vm)),
            Some(_) | None => Err(ProviderError::NotServing { machine: record.name, detail: format!("it is {power}") }),
        }
    }

    /// The running copy itself.
    pub(crate) fn machine(&self, generation: Generation) -> Result<Vm, ProviderError> {
        self.running(generation).map(|(_, vm)| vm)
    }

    /// A connection to a port of the running copy, from within its network.
    pub(crate) fn link(&self, generation: Generation, host: &str, port: u16) -> Result<(TcpStream, Cable), ProviderError> {
        let (record, _) = self.running(generation)?;
        let names = self.names(&record)?;
        probe::link_within(&Room { names: &names, networks: self.networks }, &record.name, host, port)
    }

    /// Asks the running copy.
    pub(crate) fn check(&self, generation: Generation, checks: &[Check]) -> Result<String, ProviderError> {
        let (record, vm) = self.running(generation)?;
        if checks.is_empty() {
            return Ok(format!("{} runs; nothing was asked", record.name));
        }
        let (in_guest, over_network): (Vec<&Check>, Vec<&Check>) = checks.iter().partition(|check| matches!(check, Check::Guest { .. }));
        let over_network: Vec<Check> = over_network.into_iter().cloned().collect();
        let mut answers = vec![];
        if !over_network.is_empty() {
            let names = self.names(&record)?;
            answers.push(probe::ask_within(&Room { names: &names, networks: self.networks }, &record.name, &over_network)?);
        }
        for check in in_guest {
            if let Check::Guest { program, arguments } = check {
                answers.push(vm.run_in_guest(program, arguments)?);
            }
        }
        Ok(answers.join("; "))
    }

    /// Removes every copy up to that generation, whatever is left of it. The caller holds the item.
    pub(crate) fn clean(&self, right: &Right<'_>, generation: Generation) -> Result<(), ProviderError> {
        durable::make_dir(&self.bars).map_err(failed("make directory", &self.bars))?;
        let path = self.bars.join(format!("{generation}.{}", right.call.token));
        durable::mark(&path).map_err(failed("write", &path))?;
        let beneath = |(other, token): &Bar| *other <= generation && *token < right.call.token;
        for (other, token) in read_bars(&self.bars)?.into_iter().filter(beneath) {
            let path = self.bars.join(format!("{other}.{token}"));
            durable::remove(&path).map_err(failed("remove", &path))?;
        }
        right.before("destroy")?;
        // Nobody knows them for ours once the machine has gone.
        isolation::remove_ends(&Names::of(self.item, generation, None))?;
        for vm in self.hypervisor.all()? {
            match self.is_copy(&vm, generation) {
                Ok(true) => self.end(&vm)?,
                Err(error) if self.hypervisor.by_uuid(&vm.uuid)?.is_some() => return Err(error),
                // Another one, or one that has gone since: others are cleaned at the same time.
                Ok(false) | Err(_) => {}
            }
        }
        self.clean_networks(right.guard, generation)?;
        for name in durable::names(&self.dir).map_err(failed("list", &self.dir))? {
            if token_of(&name).is_none_or(|token| is_late(&[(generation, right.call.token)], token)) {
                let path = self.dir.join(&name);
                durable::remove(&path).map_err(failed("remove", &path))?;
            }
        }
        self.remove_dir()
    }

    /// Those of its own, and those that it was the last on. The bar stands.
    fn clean_networks(&self, guard: &Guard, generation: Generation) -> Result<(), ProviderError> {
        let ours = isolation::left(self.hypervisor)?.into_iter().filter_map(|whose| match whose {
            Whose::Copy(item, made) if item == *self.item && made <= generation => Some(made),
            Whose::Copy(..) | Whose::Copies(_) => None,
        });
        for made in ours.chain([generation]) {
            let names = Names::of(self.item, made, None);
            isolation::remove_ends(&names)?;
            isolation::remove(self.hypervisor, &names.network)?;
        }
        self.storage().map_or(Ok(()), |storage| self.networks.sweep(self.hypervisor, guard, storage))
    }

    /// Where all items of this host are.
    fn storage(&self) -> Option<&Path> {
        self.dir.parent().and_then(Path::parent)
    }

    fn remove_files(&self, token: EffectToken) -> Result<(), ProviderError> {
        // The record first: without it the rest is garbage; the mark on the point last: until then its files are read.
        let start = |first: &str| format!("{first}.{token}.");
        let names = durable::names(&self.dir).map_err(failed("list", &self.dir))?;
        let (mut ours, copy): (Vec<&String>, Vec<&String>) =
            names.iter().filter(|n| token_of(n) == Some(token)).partition(|n| !n.starts_with(&start("copy")));
        ours.sort_by_key(|n| !n.starts_with(&start("machine")));
        for name in ours.into_iter().chain(copy) {
            let path = self.dir.join(name);
            durable::remove(&path).map_err(failed("remove", &path))?;
        }
        durable::sync_dir(&self.dir).map_err(failed("sync", &self.dir))
    }

    fn remove_dir(&self) -> Result<(), ProviderError> {
        match fs::remove_dir(&self.dir) {
            Ok(()) => self.dir.parent().map_or(Ok(()), durable::sync_dir).map_err(failed("sync", &self.dir)),
            Err(e) if matches!(e.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::DirectoryNotEmpty) => Ok(()),
            Err(e) => Err(failed("remove", &self.dir)(e)),
        }
    }

    /// What exists of a generation's copy.
    pub(crate) fn observe(&self, generation: Generation) -> Result<RecoveredState, ProviderError> {
        let Some(record) = self.records()?.into_iter().find(|r| r.generation == generation) else { return Ok(RecoveredState::Absent) };
        let (token, point) = (record.token, record.point);
        let Some(since) = record.started(&self.dir)? else { return Ok(RecoveredState::Prepared { token, point }) };
        let power = self.hypervisor.by_uuid(&record.uuid)?.map_or(Ok(PowerState::Off), |vm| vm.power())?;
        Ok(RecoveredState::Started { token, point, since, power, standalone: false })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_has_a_name_of_its_own_that_libvirt_can_make_files_of() {
        assert_eq!(copy_name("db9"), "db9-test");
        let (one, other) = (copy_name(&format!("{}a", "x".repeat(80))), copy_name(&format!("{}b", "x".repeat(80))));
        assert!(one.len() <= MAX_NAME && one != other, "{one}");
    }
}
