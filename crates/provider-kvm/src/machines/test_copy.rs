//! Copies for tests: machines made from points beside replication, in a directory and on a network of their own.
//!
//! ```text
//!   ITEM/test/copy.TOKEN.json    first: the point that is read from here on, then what the copy lacks
//!   ITEM/test/run.TOKEN.vda.qcow2 ─▶ ../pN…      machine.TOKEN.json, started.TOKEN.json, log.TOKEN.… as for recovered machines
//!   STATE/test/ITEM/GENERATION.TOKEN   what was made up to that generation under a smaller token is garbage, whenever it appears
//!
//!   recover   "reads point N" ─▶ overlays ─▶ record                       nothing runs
//!   start     network ─▶ proof ─▶ create paused ─▶ proof ─▶ started record ─▶ resume
//!   clean     bar ─▶ machine ─▶ probe, network, bridge ─▶ files
//! ```
//!
//! Invariants: 1. A copy's machine is never stored in libvirt: it does not outlive its host's boot. 2. Its first instruction runs
//! after the second proof. 3. `recover`, `discard` and the sweep of recovered machines do not look into `test`, and nothing here
//! looks out of it but at points. 4. A point is read only under a record that pruning respects, and the record is older than the
//! look at the point's files.

use std::{
    fs,
    net::TcpStream,
    path::{Path, PathBuf},
};

use chrono::Utc;
use provider::{Applied, Isolation, NetworkChoice, OwnedObject, ObjectKind, PowerState, ProviderError, RecoverTest, Recovered, RecoveredState, TestStarted};
use recovery::{Check, EffectToken, Generation, ItemName, PointId};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{
    isolation::{self, Names},
    probe::Cable,
    probe,
    records::{self, MachineRecord},
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

/// What is read, and what the copy lacks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Copy {
    version: u32,
    generation: Generation,
    point: PointId,
    left_out: Vec<String>,
}

/// One item's copies.
#[derive(Debug)]
pub(crate) struct Copies<'a> {
    hypervisor: &'a Hypervisor,
    item: &'a ItemName,
    dir: PathBuf,
    bars: PathBuf,
}

fn directory(item_dir: &Path) -> PathBuf {
    item_dir.join("test")
}

fn bars(guard: &Guard, item: &ItemName) -> PathBuf {
    guard.state_dir().join("test").join(item.as_str())
}

/// Up to which generation and token copies were cleaned.
type Bar = (Generation, EffectToken);

fn read_bars(bars: &Path) -> Result<Vec<Bar>, ProviderError> {
    let names = durable::names(bars).map_err(failed("list", bars))?;
    let read = |name: &String| name.split_once('.').and_then(|(generation, token)| Some((generation.parse().ok()?, token.parse().ok()?)));
    Ok(names.iter().filter_map(read).collect())
}

/// Whether what was made under a token was cleaned since, or its call comes too late.
fn is_late(bars: &[Bar], token: EffectToken) -> bool {
    bars.iter().any(|(generation, bar)| token.generation() <= *generation && token < *bar)
}

fn token_of(name: &str) -> Option<EffectToken> {
    name.split('.').nth(1).and_then(|t| t.parse().ok())
}

/// The points that copies read from, with their generations. The newest one and all beneath it must stay as they are.
pub(crate) fn read_by_copies(item_dir: &Path) -> Result<Vec<(PointId, Generation)>, ProviderError> {
    let dir = directory(item_dir);
    let mut found = vec![];
    for name in durable::names(&dir).map_err(failed("list", &dir))?.iter().filter(|n| n.starts_with("copy.") && n.ends_with(".json")) {
        let copy: Copy = match fs::read(dir.join(name)) {
            Ok(content) => serde_json::from_slice(&content).map_err(|e| failed("read", &dir.join(name))(e.into()))?,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
            Err(e) => return Err(failed("read", &dir.join(name))(e)),
        };
        found.push((copy.point, copy.generation));
    }
    Ok(found)
}

/// Removes what calls have left that came too late, and what belongs to no copy and was made under a token below `below`.
pub(crate) fn sweep_copies(item_dir: &Path, guard: &Guard, item: &ItemName, below: EffectToken) -> Result<(), ProviderError> {
    let dir = directory(item_dir);
    let bars = read_bars(&bars(guard, item))?;
    for name in durable::names(&dir).map_err(failed("list", &dir))? {
        if token_of(&name).is_some_and(|token| is_late(&bars, token)) {
            let path = dir.join(&name);
            durable::remove(&path).map_err(failed("remove", &path))?;
        }
    }
    records::sweep(&dir, below)
}

/// Everything of copies that exists in an item's directory.
pub(crate) fn files_of_copies(item_dir: &Path, item: &ItemName) -> Result<Vec<OwnedObject>, ProviderError> {
    use std::os::unix::fs::MetadataExt;
    let dir = directory(item_dir);
    let names = durable::names(&dir).map_err(failed("list", &dir))?;
    let object = |name: &String| {
        let kind = match name.as_str() {
            n if n.ends_with(".new") => ObjectKind::Temporary,
            n if n.starts_with("run.") => ObjectKind::MachineDisk,
            _ => ObjectKind::Record,
        };
        let bytes = fs::metadata(dir.join(name)).map_or(0, |m| m.blocks() * 512);
        OwnedObject { kind, item: Some(item.clone()), name: dir.join(name).display().to_string(), bytes, of_test: true }
    };
    Ok(names.iter().map(object).collect())
}

/// Networks, bridges and probes of copies on this host.
pub(crate) fn networks_of_copies(hypervisor: &Hypervisor) -> Result<Vec<OwnedObject>, ProviderError> {
    let object = |item, name| OwnedObject { kind: ObjectKind::Network, item, name, bytes: 0, of_test: true };
    let mut objects = vec![];
    for network in hypervisor.networks("switchback-test.")? {
        objects.push(object(isolation::whose(&network).map(|(item, _)| item), network));
    }
    for interface in isolation::ours()? {
        let item = interface.ifalias.as_deref().and_then(isolation::whose).map(|(item, _)| item);
        objects.push(object(item, interface.ifname));
    }
    Ok(objects)
}

/// Whether a machine with that owner is a copy's.
pub(crate) fn owns_copy(owner: &str) -> bool {
    owner.ends_with(OWNER_END)
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
    pub(crate) fn of(hypervisor: &'a Hypervisor, guard: &Guard, item: &'a ItemName, item_dir: &Path) -> Self {
        Self { hypervisor, item, dir: directory(item_dir), bars: bars(guard, item) }
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
        let RecoverTest { item, generation, point } = wanted;
        for record in self.records()? {
            let (other, started) = (record.generation, record.started(&self.dir)?.is_some());
            if other > *generation {
                return Err(ProviderError::Superseded { item: item.clone(), given: *generation, newest: other });
            }
            if other < *generation {
                return Err(ProviderError::TestCopyExists { item: item.clone(), existing: other });
            }
            if record.point == *point {
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
        let RecoverTest { item, generation, point } = wanted;
        let token = right.call.token;
        let mut copy = Copy { version: 1, generation: *generation, point: *point, left_out: vec![] };
        self.store_copy(token, &copy)?;
        let (machine, files) = store.point(*point)?;
        right.before("recover")?;
        let mut disks = std::collections::BTreeMap::new();
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
        let names = Names::of(item, *generation);
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

    fn left_out(&self, token: EffectToken) -> Result<Vec<String>, ProviderError> {
        let path = self.copy_file(token);
        let content = fs::read(&path).map_err(failed("read", &path))?;
        let copy: Copy = serde_json::from_slice(&content).map_err(|e| failed("read", &path)(e.into()))?;
        Ok(copy.left_out)
    }

    /// Proves that the network is isolated and powers the copy on. The caller holds the item.
    pub(crate) fn start(&self, right: &Right<'_>, generation: Generation) -> Result<TestStarted, ProviderError> {
        let record = self.of_generation(generation)?;
        let names = Names::of(self.item, generation);
        let there = self.hypervisor.by_uuid(&record.uuid)?;
        isolation::ensure(self.hypervisor, right, &names)?;
        if there.is_none() {
            isolation::prove(self.hypervisor, &names, None)?;
        }
        let vm = match there {
            Some(vm) => vm,
            None => self.create(right, &record)?,
        };
        let proof = match isolation::prove(self.hypervisor, &names, Some(&vm)) {
            Ok(proof) => proof,
            Err(error) => {
                self.end(&vm)?;
                return Err(error);
            }
        };
        let since = match record.started(&self.dir)? {
            Some(since) => since,
            None => {
                let since = Utc::now();
                record.store_started(&self.dir, since)?;
                since
            }
        };
        if vm.power()? == PowerState::Paused {
            if let Err(late) = right.before("resume") {
                self.end(&vm)?;
                return Err(late);
            }
            vm.resume()?;
        }
        let left_out = self.left_out(record.token)?;
        let left_out = if left_out.is_empty() { String::new() } else { format!("; left out of the copy: {}", left_out.join(", ")) };
        let isolation = Isolation { network: names.network, detail: format!("{proof}{left_out}"), observed_at: Utc::now() };
        Ok(TestStarted { point: record.point, machine: record.name, since, isolation })
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
        let owner = definition::owner(&vm.definition()?);
        let named = owner.as_deref().and_then(|o| o.strip_suffix(OWNER_END)).and_then(|o| o.split_once(' '));
        Ok(named.is_some_and(|(item, token)| {
            item == self.item.as_str() && token.parse::<EffectToken>().is_ok_and(|t| t.generation() <= generation)
        }))
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
        probe::link_within(&Names::of(self.item, generation), &record.name, host, port)
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
            answers.push(probe::ask_within(&Names::of(self.item, generation), &record.name, &over_network)?);
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
        for vm in self.hypervisor.all()? {
            if self.is_copy(&vm, generation)? {
                self.end(&vm)?;
            }
        }
        let (networks, interfaces) = (self.hypervisor.networks("switchback-test.")?, isolation::ours()?);
        let named = networks.iter().map(String::as_str).chain(interfaces.iter().filter_map(|i| i.ifalias.as_deref()));
        let ours = named.filter_map(isolation::whose).filter(|(item, made)| item == self.item && *made <= generation);
        for (item, made) in ours.chain([(self.item.clone(), generation)]) {
            isolation::remove(self.hypervisor, &Names::of(&item, made))?;
        }
        for name in durable::names(&self.dir).map_err(failed("list", &self.dir))? {
            if token_of(&name).is_none_or(|token| is_late(&[(generation, right.call.token)], token)) {
                let path = self.dir.join(&name);
                durable::remove(&path).map_err(failed("remove", &path))?;
            }
        }
        self.remove_dir()
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
#[expect(clippy::unwrap_used, reason = "a test fails where its sentence does not hold")]
mod tests {
    use super::*;

    #[test]
    fn a_copy_has_a_name_of_its_own_that_libvirt_can_make_files_of() {
        assert_eq!(copy_name("db9"), "db9-test");
        let (one, other) = (copy_name(&format!("{}a", "x".repeat(80))), copy_name(&format!("{}b", "x".repeat(80))));
        assert!(one.len() <= MAX_NAME && one != other, "{one}");
    }

    #[test]
    fn what_a_late_call_leaves_after_a_cleaning_is_swept() {
        let (storage, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (guard, item) = (Guard::take_over(state.path(), 0).unwrap(), "vm".parse::<ItemName>().unwrap());
        let token = |seq| EffectToken { era: 1, grant_epoch: 1, seq, run_epoch: 1, attempt: 1 };
        let dir = directory(storage.path());
        durable::make_dir(&dir).unwrap();
        let write = |token: EffectToken, point| {
            let copy = Copy { version: 1, generation: token.generation(), point: PointId(point), left_out: vec![] };
            fs::write(dir.join(format!("copy.{token}.json")), serde_json::to_vec(&copy).unwrap()).unwrap();
        };
        durable::make_dir(&bars(&guard, &item)).unwrap();
        durable::mark(&bars(&guard, &item).join(format!("{}.{}", token(5).generation(), token(5)))).unwrap();
        write(token(3), 4); // of a call that comes late
        write(token(7), 9); // of the one that is at work
        sweep_copies(storage.path(), &guard, &item, token(7)).unwrap();
        assert_eq!(read_by_copies(storage.path()).unwrap(), [(PointId(9), token(7).generation())]);
        sweep_copies(storage.path(), &guard, &item, token(8)).unwrap();
        assert_eq!(read_by_copies(storage.path()).unwrap(), []);
    }
}
