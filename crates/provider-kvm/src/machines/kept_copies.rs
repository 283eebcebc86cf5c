//! What the disk says of an item's copies: which there are, what they read, which were cleaned.
//!
//! ```text
//!   ITEM/test/copy.TOKEN.json          the point that is read, and the network
//!   STATE/test/ITEM/GENERATION.TOKEN   a bar: what was made up to that generation under a smaller token is garbage
//! ```
//!
//! Invariant: a record whose copy is barred counts for nothing but the point that it reads, until it is swept.

use std::{
    fs,
    path::{Path, PathBuf},
};

use provider::{ObjectKind, OwnedObject, ProviderError};
use recovery::{EffectToken, Generation, ItemName, PointId, TestNetwork};
use serde::{Deserialize, Serialize};

use super::records;
use crate::{
    durable::{self, failed},
    guard::Guard,
};

/// What is read, and what the copy lacks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Copy {
    pub(super) version: u32,
    pub(super) generation: Generation,
    pub(super) point: PointId,
    pub(super) left_out: Vec<String>,
    /// That it shares with others; `None`: its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) network: Option<TestNetwork>,
}

pub(super) fn directory(item_dir: &Path) -> PathBuf {
    item_dir.join("test")
}

pub(super) fn bars(guard: &Guard, item: &ItemName) -> PathBuf {
    guard.state_dir().join("test").join(item.as_str())
}

/// Up to which generation and token copies were cleaned.
pub(super) type Bar = (Generation, EffectToken);

pub(super) fn read_bars(bars: &Path) -> Result<Vec<Bar>, ProviderError> {
    let names = durable::names(bars).map_err(failed("list", bars))?;
    let read = |name: &String| name.split_once('.').and_then(|(generation, token)| Some((generation.parse().ok()?, token.parse().ok()?)));
    Ok(names.iter().filter_map(read).collect())
}

/// Whether what was made under a token was cleaned since, or its call comes too late.
pub(super) fn is_late(bars: &[Bar], token: EffectToken) -> bool {
    bars.iter().any(|(generation, bar)| token.generation() <= *generation && token < *bar)
}

pub(super) fn token_of(name: &str) -> Option<EffectToken> {
    name.split('.').nth(1).and_then(|t| t.parse().ok())
}

/// The records of an item's copies, and what they were made under.
fn copies_in(item_dir: &Path) -> Result<Vec<(EffectToken, Copy)>, ProviderError> {
    let dir = directory(item_dir);
    let mut found = vec![];
    for name in durable::names(&dir).map_err(failed("list", &dir))?.iter().filter(|n| n.starts_with("copy.") && n.ends_with(".json")) {
        let Some(token) = token_of(name) else { continue };
        let copy: Copy = match fs::read(dir.join(name)) {
            Ok(content) => serde_json::from_slice(&content).map_err(|e| failed("read", &dir.join(name))(e.into()))?,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
            Err(e) => return Err(failed("read", &dir.join(name))(e)),
        };
        found.push((token, copy));
    }
    Ok(found)
}

/// The points that copies read from, with their generations. The newest one and all beneath it must stay as they are.
pub(crate) fn read_by_copies(item_dir: &Path) -> Result<Vec<(PointId, Generation)>, ProviderError> {
    Ok(copies_in(item_dir)?.into_iter().map(|(_, copy)| (copy.point, copy.generation)).collect())
}

/// The shared networks that an item's copies are on, and the generations of those.
pub(super) fn networks_used(item_dir: &Path, guard: &Guard, item: &ItemName) -> Result<Vec<(Generation, TestNetwork)>, ProviderError> {
    let copies = copies_in(item_dir)?;
    if copies.is_empty() {
        return Ok(vec![]);
    }
    let bars = read_bars(&bars(guard, item))?;
    Ok(copies.into_iter().filter(|(token, _)| !is_late(&bars, *token)).filter_map(|(_, copy)| Some((copy.generation, copy.network?))).collect())
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

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails where its sentence does not hold")]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::machines::{isolation::Names, shared};

    #[test]
    fn what_a_late_call_leaves_after_a_cleaning_is_swept() {
        let (storage, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (guard, item) = (Guard::take_over(state.path(), 0).unwrap(), "vm".parse::<ItemName>().unwrap());
        let token = |seq| EffectToken { era: 1, grant_epoch: 1, seq, run_epoch: 1, attempt: 1 };
        let dir = directory(storage.path());
        durable::make_dir(&dir).unwrap();
        let write = |token: EffectToken, point| {
            let copy = Copy { version: 1, generation: token.generation(), point: PointId(point), left_out: vec![], network: None };
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

    #[test]
    fn the_ends_of_a_copy_on_a_shared_network_are_known_until_it_is_cleaned_whether_its_machine_lives_or_not() {
        let (storage, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (guard, item) = (Guard::take_over(state.path(), 0).unwrap(), "db2".parse::<ItemName>().unwrap());
        let token = EffectToken { era: 1, grant_epoch: 1, seq: 3, run_epoch: 1, attempt: 1 };
        let (network, other): (TestNetwork, TestNetwork) = ("shop".parse().unwrap(), "bank".parse().unwrap());
        let dir = directory(&storage.path().join("db2"));
        durable::make_dir(&dir).unwrap();
        let copy = Copy { version: 1, generation: token.generation(), point: PointId(4), left_out: vec![], network: Some(network.clone()) };
        fs::write(dir.join(format!("copy.{token}.json")), serde_json::to_vec(&copy).unwrap()).unwrap();
        let Names { port, link, .. } = Names::of(&item, token.generation(), Some(&network));
        assert_eq!(shared::ends_on(&network, &guard, storage.path()).unwrap(), BTreeSet::from([port, link]));
        assert_eq!(shared::ends_on(&other, &guard, storage.path()).unwrap(), BTreeSet::new());
        durable::make_dir(&bars(&guard, &item)).unwrap();
        let cleaned = EffectToken { seq: 5, ..token };
        durable::mark(&bars(&guard, &item).join(format!("{}.{cleaned}", token.generation()))).unwrap();
        assert_eq!(shared::ends_on(&network, &guard, storage.path()).unwrap(), BTreeSet::new());
    }
}
