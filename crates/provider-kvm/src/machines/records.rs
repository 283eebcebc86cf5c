//! Files that describe recovered machines.

use std::{collections::BTreeMap, fs, io, path::Path};

use chrono::{DateTime, Utc};
use provider::{NetworkChoice, ProviderError};
use recovery::{EffectToken, Generation, PointId};
use serde::{Deserialize, Serialize};

use crate::durable::{self, failed};

/// A recovered machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MachineRecord {
    pub(crate) version: u32,
    pub(crate) token: EffectToken,
    pub(crate) generation: Generation,
    pub(crate) point: PointId,
    pub(crate) network: NetworkChoice,
    pub(crate) name: String,
    pub(crate) uuid: String,
    /// File names by disk target.
    pub(crate) disks: BTreeMap<String, String>,
    /// Domain XML as it is started.
    pub(crate) definition: String,
}

#[derive(Serialize, Deserialize)]
struct StartedRecord {
    since: DateTime<Utc>,
}

impl MachineRecord {
    pub(crate) const VERSION: u32 = 1;

    pub(crate) fn disk_name(token: EffectToken, target: &str) -> String {
        format!("run.{token}.{target}.qcow2")
    }

    /// Makes it true that the machine is prepared.
    pub(crate) fn store(&self, dir: &Path) -> Result<(), ProviderError> {
        let path = dir.join(format!("machine.{}.json", self.token));
        let json = serde_json::to_vec(self).map_err(|e| failed("write", &path)(e.into()))?;
        durable::write(&path, &json).map_err(failed("write", &path))
    }

    /// When it was first powered on; `None` if it never was.
    pub(crate) fn started(&self, dir: &Path) -> Result<Option<DateTime<Utc>>, ProviderError> {
        let record: Option<StartedRecord> = read(&dir.join(format!("started.{}.json", self.token)))?;
        Ok(record.map(|r| r.since))
    }

    pub(crate) fn store_started(&self, dir: &Path, since: DateTime<Utc>) -> Result<(), ProviderError> {
        let path = dir.join(format!("started.{}.json", self.token));
        let json = serde_json::to_vec(&StartedRecord { since }).map_err(|e| failed("write", &path)(e.into()))?;
        durable::write(&path, &json).map_err(failed("write", &path))
    }

    pub(crate) fn standalone(&self, dir: &Path) -> bool {
        dir.join(format!("standalone.{}", self.token)).exists()
    }

    pub(crate) fn store_standalone(&self, dir: &Path) -> Result<(), ProviderError> {
        let path = dir.join(format!("standalone.{}", self.token));
        durable::mark(&path).map(drop).map_err(failed("write", &path))
    }

    /// Whether it was taken from the hypervisor, with its disks kept for a replica to lie on.
    pub(crate) fn retired(&self, dir: &Path) -> bool {
        dir.join(format!("retired.{}", self.token)).exists()
    }

    pub(crate) fn store_retired(&self, dir: &Path) -> Result<(), ProviderError> {
        let path = dir.join(format!("retired.{}", self.token));
        durable::mark(&path).map(drop).map_err(failed("write", &path))
    }

    /// Makes it true that the hypervisor has it again.
    pub(crate) fn remove_retired(&self, dir: &Path) -> Result<(), ProviderError> {
        let path = dir.join(format!("retired.{}", self.token));
        durable::remove(&path).map_err(failed("remove", &path))?;
        durable::sync_dir(dir).map_err(failed("sync", dir))
    }

    /// Removes its disks and records, the one that says it exists last.
    pub(crate) fn remove(&self, dir: &Path) -> Result<(), ProviderError> {
        let marks = ["started.TOKEN.json", "standalone.TOKEN", "retired.TOKEN"].map(|n| n.replace("TOKEN", &self.token.to_string()));
        let record = format!("machine.{}.json", self.token);
        for name in self.disks.values().chain(&marks).chain([&record]) {
            let path = dir.join(name);
            durable::remove(&path).map_err(failed("remove", &path))?;
        }
        durable::sync_dir(dir).map_err(failed("sync", dir))
    }
}

fn read<T: for<'de> Deserialize<'de>>(path: &Path) -> Result<Option<T>, ProviderError> {
    let content = match fs::read(path) {
        Ok(content) => content,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(failed("read", path)(e)),
    };
    serde_json::from_slice(&content).map(Some).map_err(|e| failed("read", path)(e.into()))
}

/// Tokens up to which calls of a generation were discarded.
fn discarded(names: &[String]) -> BTreeMap<Generation, EffectToken> {
    let mut bars: BTreeMap<Generation, EffectToken> = BTreeMap::new();
    for name in names {
        let Some((generation, token)) = name.strip_prefix("discarded.").and_then(|rest| rest.split_once('.')) else { continue };
        let (Ok(generation), Ok(token)) = (generation.parse(), token.parse()) else { continue };
        let bar = bars.entry(generation).or_insert(token);
        *bar = token.max(*bar);
    }
    bars
}

/// Remembers that calls of `generation` with a token below `token` come too late.
pub(super) fn store_discarded(dir: &Path, generation: Generation, token: EffectToken) -> Result<(), ProviderError> {
    let path = dir.join(format!("discarded.{generation}.{token}"));
    durable::mark(&path).map(drop).map_err(failed("write", &path))
}

/// The machines that exist, by generation; of each generation the one with the greatest token.
pub(crate) fn records(dir: &Path) -> Result<BTreeMap<Generation, MachineRecord>, ProviderError> {
    let names = durable::names(dir).map_err(failed("list", dir))?;
    let bars = discarded(&names);
    let mut found: BTreeMap<Generation, MachineRecord> = BTreeMap::new();
    for name in names.iter().filter(|n| n.starts_with("machine.") && n.ends_with(".json")) {
        let Some(record) = read::<MachineRecord>(&dir.join(name))? else { continue };
        let late = bars.get(&record.generation).is_some_and(|bar| record.token < *bar);
        let smaller = found.get(&record.generation).is_some_and(|other| other.token > record.token);
        if !late && !smaller {
            found.insert(record.generation, record);
        }
    }
    Ok(found)
}

/// Whether a name is one that only files of recovered machines have.
fn is_machine_file(name: &str) -> bool {
    ["machine.", "run.", "started.", "standalone.", "retired.", "discarded.", "copy.", "log."].iter().any(|start| name.starts_with(start))
}

/// Removes garbage: what belongs to no machine that exists, and was made under a token below `below`. Whoever acts with a
/// greater token may be at work on theirs.
pub(crate) fn sweep(dir: &Path, below: EffectToken) -> Result<(), ProviderError> {
    let existing: Vec<EffectToken> = records(dir)?.values().map(|r| r.token).collect();
    let names = durable::names(dir).map_err(failed("list", dir))?;
    let bars = discarded(&names);
    for name in names.iter().filter(|n| is_machine_file(n)) {
        let tombstone = name.strip_prefix("discarded.").and_then(|rest| rest.split_once('.'));
        let token = tombstone.map_or_else(|| name.split('.').nth(1), |(_, token)| Some(token));
        let Some(token) = token.and_then(|t| t.parse::<EffectToken>().ok()).filter(|t| *t < below) else { continue };
        let keep = match tombstone {
            Some((generation, _)) => generation.parse().ok().and_then(|g| bars.get(&g)) == Some(&token),
            None => existing.contains(&token),
        };
        if !keep {
            let path = dir.join(name);
            durable::remove(&path).map_err(failed("remove", &path))?;
        }
    }
    Ok(())
}

/// Who reads from the item's points: a machine's disk that is not standalone, whether its record exists or not.
pub(crate) fn dependent(dir: &Path) -> Result<Option<String>, ProviderError> {
    let names = durable::names(dir).map_err(failed("list", dir))?;
    let standalone = |name: &str| {
        let token = name.split('.').nth(1).unwrap_or_default();
        names.iter().any(|n| n.strip_prefix("standalone.") == Some(token))
    };
    Ok(names.iter().find(|n| n.starts_with("run.") && !standalone(n)).cloned())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails where its sentence does not hold")]
mod tests {
    use super::*;

    fn token(grant_epoch: i64, seq: i64, attempt: i64) -> EffectToken {
        EffectToken { era: 1, grant_epoch, seq, run_epoch: 1, attempt }
    }

    fn prepared(dir: &Path, grant_epoch: i64, token: EffectToken) -> MachineRecord {
        let disk = MachineRecord::disk_name(token, "vda");
        fs::write(dir.join(&disk), "x").unwrap();
        let record = MachineRecord {
            version: MachineRecord::VERSION,
            token,
            generation: Generation { era: 1, grant_epoch },
            point: PointId(1),
            network: NetworkChoice::AsDefined,
            name: "vm".into(),
            uuid: "u".into(),
            disks: BTreeMap::from([("vda".into(), disk)]),
            definition: String::new(),
        };
        record.store(dir).unwrap();
        record
    }

    #[test]
    fn of_a_generation_the_greatest_token_counts_and_the_rest_is_swept() {
        let dir = tempfile::tempdir().unwrap();
        let second = prepared(dir.path(), 1, token(1, 5, 2));
        prepared(dir.path(), 1, token(1, 5, 1)); // of a call that was stopped and goes on late
        let newer = prepared(dir.path(), 2, token(2, 1, 1));
        let found: Vec<MachineRecord> = records(dir.path()).unwrap().into_values().collect();
        assert_eq!(found, [second.clone(), newer]);
        sweep(dir.path(), token(2, 1, 1)).unwrap();
        assert_eq!(durable::names(dir.path()).unwrap().len(), 4);
        assert!(dir.path().join(&second.disks["vda"]).exists());
    }

    #[test]
    fn a_record_that_appears_after_its_generation_was_discarded_is_garbage() {
        let dir = tempfile::tempdir().unwrap();
        let generation = Generation { era: 1, grant_epoch: 1 };
        store_discarded(dir.path(), generation, token(1, 9, 1)).unwrap();
        prepared(dir.path(), 1, token(1, 5, 1));
        assert!(dependent(dir.path()).unwrap().is_some());
        assert!(records(dir.path()).unwrap().is_empty());
        sweep(dir.path(), token(1, 5, 1)).unwrap();
        assert!(dependent(dir.path()).unwrap().is_some(), "a token that is not smaller may be at work");
        sweep(dir.path(), token(1, 9, 1)).unwrap();
        assert_eq!(durable::names(dir.path()).unwrap(), ["discarded.e1-g1.e1-g1-s9-r1-a1"]);
        let again = prepared(dir.path(), 1, token(1, 12, 1));
        assert_eq!(records(dir.path()).unwrap().into_values().collect::<Vec<_>>(), std::slice::from_ref(&again));
        again.store_standalone(dir.path()).unwrap();
        assert_eq!(dependent(dir.path()).unwrap(), None);
        again.remove(dir.path()).unwrap();
        assert_eq!(durable::names(dir.path()).unwrap().len(), 1);
    }
}
