//! What was done to a machine, on disk: the greatest token of `fence` and `lifted` counts.
//!
//! ```text
//!   STATE/fence/ITEM/fence.TOKEN.json    the machine is to stay off; how it was before
//!   STATE/fence/ITEM/lifted.TOKEN        and may run again
//!   STATE/fence/ITEM/asked.TOKEN.json    its guest was asked to shut down: no fence, but what a fence or a lift needs to know
//! ```
//!
//! Invariant: what was asked of a guest counts for calls of the same generation only, so nothing is started one day because of
//! a forgotten file.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use chrono::Utc;
use provider::{Applied, FenceMethod, FenceProof, PowerState, ProviderError};
use recovery::{EffectToken, Generation, ItemName};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    durable::{self, failed},
    hypervisor::Vm,
};

/// A fence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FenceRecord {
    pub(crate) version: u32,
    pub(crate) token: EffectToken,
    pub(crate) machine: String,
    pub(crate) was_running: bool,
    /// By libvirt, or by the agent in its place.
    pub(crate) had_autostart: bool,
    /// Once it was proven.
    pub(crate) proof: Option<FenceProof>,
}

impl FenceRecord {
    /// A fence that is not proven yet. The machine was running, or had autostart, if it is so now, was so before an earlier fence,
    /// or before its guest was asked.
    pub(crate) fn begun(
        token: EffectToken,
        machine: &str,
        (running, autostart): (bool, bool),
        earlier: Option<&Self>,
        asked: Option<&Asked>,
    ) -> Self {
        Self {
            version: 1,
            token,
            machine: machine.to_owned(),
            was_running: running || asked.is_some() || earlier.is_some_and(|e| e.was_running),
            had_autostart: autostart || asked.is_some_and(|a| a.had_autostart) || earlier.is_some_and(|e| e.had_autostart),
            proof: None,
        }
    }
}

/// A guest that was running was asked to shut down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Asked {
    pub(crate) version: u32,
    pub(crate) token: EffectToken,
    pub(crate) machine: String,
    pub(crate) had_autostart: bool,
}

/// Where an item's fences are.
pub(crate) fn dir(state_dir: &Path, item: &ItemName) -> PathBuf {
    state_dir.join("fence").join(item.as_str())
}

fn token(name: &str) -> Option<EffectToken> {
    name.split('.').nth(1).and_then(|token| token.parse().ok())
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<T, ProviderError> {
    let content = fs::read(path).map_err(failed("read", path))?;
    serde_json::from_slice(&content).map_err(|e| failed("read", path)(e.into()))
}

fn write(path: &Path, record: &impl Serialize) -> Result<(), ProviderError> {
    let json = serde_json::to_vec(record).map_err(|e| failed("write", path)(e.into()))?;
    durable::write(path, &json).map_err(failed("write", path))
}

fn names(dir: &Path) -> Result<Vec<String>, ProviderError> {
    durable::names(dir).map_err(failed("list", dir))
}

/// The fence in force; `None` if there is none or it was lifted.
pub(crate) fn in_force(dir: &Path) -> Result<Option<FenceRecord>, ProviderError> {
    let names = names(dir)?;
    let says = |n: &&String| (n.starts_with("fence.") && n.ends_with(".json")) || n.starts_with("lifted.");
    let newest = names.iter().filter(says).filter_map(|n| Some((token(n)?, n))).max();
    let Some((_, name)) = newest.filter(|(_, n)| n.starts_with("fence.")) else { return Ok(None) };
    read(&dir.join(name)).map(Some)
}

pub(crate) fn store(dir: &Path, record: &FenceRecord) -> Result<(), ProviderError> {
    write(&dir.join(format!("fence.{}.json", record.token)), record)
}

/// Takes back a fence that came to nothing.
pub(crate) fn withdraw(dir: &Path, token: EffectToken) -> Result<(), ProviderError> {
    let path = dir.join(format!("fence.{token}.json"));
    durable::remove(&path).and_then(|_was| durable::sync_dir(dir)).map_err(failed("remove", &path))
}

/// Ends whatever fence is in force.
pub(crate) fn lift(dir: &Path, by: EffectToken) -> Result<(), ProviderError> {
    let path = dir.join(format!("lifted.{by}"));
    durable::mark(&path).map_err(failed("write", &path))?;
    remove(dir, "fence.")
}

/// What the guest was asked by a call of that generation.
pub(crate) fn asked(dir: &Path, generation: Generation) -> Result<Option<Asked>, ProviderError> {
    let names = names(dir)?;
    let asked = names.iter().filter(|n| n.starts_with("asked.") && n.ends_with(".json"));
    let newest = asked.filter_map(|n| Some((token(n)?, n))).max();
    match newest.filter(|(token, _)| token.generation() == generation) {
        Some((_, name)) => read(&dir.join(name)).map(Some),
        None => Ok(None),
    }
}

pub(crate) fn store_asked(dir: &Path, asked: &Asked) -> Result<(), ProviderError> {
    write(&dir.join(format!("asked.{}.json", asked.token)), asked)
}

/// The guest's answer is known, or matters no more.
pub(crate) fn forget_asked(dir: &Path) -> Result<(), ProviderError> {
    remove(dir, "asked.")
}

fn remove(dir: &Path, start: &str) -> Result<(), ProviderError> {
    for name in names(dir)?.iter().filter(|n| n.starts_with(start)) {
        let path = dir.join(name);
        durable::remove(&path).map_err(failed("remove", &path))?;
    }
    match durable::sync_dir(dir) {
        // Nothing was ever kept of the item.
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        synced => synced.map_err(failed("sync", dir)),
    }
}

/// Looks at the machine now. An error if it could write. `autostart` says whether anybody starts it with its host.
pub(crate) fn prove(vm: &Vm, autostart: bool, operation: &str, method: FenceMethod, detail: String) -> Result<FenceProof, ProviderError> {
    let power = vm.power()?;
    if power != PowerState::Off || autostart {
        return Err(ProviderError::Platform {
            operation: operation.to_owned(),
            target: vm.name.clone(),
            detail: format!("it is {power}, autostart is {}", if autostart { "on" } else { "off" }),
            applied: Applied::Unknown,
        });
    }
    Ok(FenceProof { machine: vm.name.clone(), method, power, autostart_off: true, observed_at: Utc::now(), detail })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails where its sentence does not hold")]
mod tests {
    use super::*;

    fn token(grant_epoch: i64, seq: i64) -> EffectToken {
        EffectToken { era: 1, grant_epoch, seq, run_epoch: 1, attempt: 1 }
    }

    #[test]
    fn a_guest_that_was_asked_is_not_fenced_and_another_generation_does_not_hear_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let ask = Asked { version: 1, token: token(2, 1), machine: "vm".into(), had_autostart: true };
        store_asked(dir.path(), &ask).unwrap();
        assert_eq!(in_force(dir.path()).unwrap(), None);
        assert_eq!(asked(dir.path(), token(2, 9).generation()).unwrap(), Some(ask));
        assert_eq!(asked(dir.path(), token(3, 1).generation()).unwrap(), None);
        forget_asked(dir.path()).unwrap();
        assert_eq!(asked(dir.path(), token(2, 9).generation()).unwrap(), None);
    }

    #[test]
    fn there_is_nothing_to_forget_of_an_item_of_which_nothing_was_kept() {
        let dir = tempfile::tempdir().unwrap();
        forget_asked(&dir.path().join("vm")).unwrap();
    }

    #[test]
    fn of_fences_and_lifts_the_greatest_token_counts() {
        let dir = tempfile::tempdir().unwrap();
        let fence = |seq| FenceRecord { version: 1, token: token(2, seq), machine: "vm".into(), was_running: true, had_autostart: true, proof: None };
        store(dir.path(), &fence(1)).unwrap();
        lift(dir.path(), token(2, 5)).unwrap();
        store(dir.path(), &fence(3)).unwrap(); // of a call that comes late
        assert_eq!(in_force(dir.path()).unwrap(), None);
        store(dir.path(), &fence(7)).unwrap();
        assert_eq!(in_force(dir.path()).unwrap(), Some(fence(7)));
        withdraw(dir.path(), token(2, 7)).unwrap();
        assert_eq!(in_force(dir.path()).unwrap(), None);
    }
}
