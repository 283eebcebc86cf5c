//! One item's replica: what may be asked of it, each under its lock.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use chrono::{DateTime, Utc};
use provider::{ExtentMap, Machine, Pin, Point, ProviderError, Replica, group::KeptMoments};
use recovery::{Consistency, Generation, GroupMoment, ItemName, PointId};
use sha2::{Digest, Sha256};

use super::{
    Record,
    journal::{self, Journal},
    prune,
    record::{Files, State, StoredBase, StoredPoint},
};
use crate::{
    durable::{self, failed},
    guard::Guard,
    machines,
    qemu::{self, Allocated},
};

/// What is kept free, so that journals and marks can always be written.
const RESERVE_BYTES: u64 = 64 << 20;
/// A journal that has grown to this many records is begun anew.
const JOURNAL_RECORDS: u32 = 2000;

/// One item's directory in a site's storage.
#[derive(Debug)]
pub(crate) struct ItemStore {
    pub(super) item: ItemName,
    /// This site's name, for those who ask.
    pub(super) site: String,
    pub(super) dir: PathBuf,
    pub(super) guard: Arc<Guard>,
    inner: Mutex<Inner>,
}

/// What only one at a time may use.
#[derive(Debug)]
pub(super) struct Inner {
    pub(super) state: Option<State>,
    pub(super) journal: Option<Journal>,
    records: u32,
    files_made: u64,
}

/// What the source says about a point.
#[derive(Debug, Clone)]
pub(crate) struct NewPoint {
    pub(crate) generation: Generation,
    pub(crate) mark: String,
    pub(crate) consistency: Consistency,
    pub(crate) taken_at: DateTime<Utc>,
    pub(crate) bytes: u64,
    /// The moment that it shares with points of other items.
    pub(crate) group: Option<GroupMoment>,
    /// What becomes of points of the group's moments.
    pub(crate) kept: Option<KeptMoments>,
}

impl ItemStore {
    /// Opens an item's directory: reads the journal, begins a new one of this writer, deletes what is not recorded, and
    /// completes a pruning that was interrupted.
    pub(crate) fn open(item: ItemName, site: &str, dir: PathBuf, guard: Arc<Guard>) -> Result<Self, ProviderError> {
        let state = journal::read(&item, &dir)?;
        let journal = match &state {
            Some(_) => Some(Journal::begin(&dir, guard.writer(), state.as_ref())?),
            None => None,
        };
        let inner = Inner { state, journal, records: 0, files_made: 0 };
        let store = Self { item, site: site.to_owned(), dir, guard, inner: Mutex::new(inner) };
        let mut inner = store.lock();
        store.sweep(inner.state.as_ref())?;
        if inner.state.is_some() {
            prune::complete(&store, &mut inner)?;
        }
        drop(inner);
        Ok(store)
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn item(&self) -> &ItemName {
        &self.item
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Takes no appends any more, of this generation or older ones.
    pub(crate) fn seal(&self, generation: Generation) -> Result<Replica, ProviderError> {
        let mut inner = self.lock();
        let state = self.state(&inner)?;
        if generation < state.generation {
            return Err(ProviderError::Superseded { item: self.item.clone(), given: generation, newest: state.generation });
        }
        if !state.sealed || state.generation < generation {
            self.record(&mut inner, Record::Sealed { generation })?;
        }
        Ok(self.state(&inner)?.describe(&self.item))
    }

    /// What is there; `None` if there is no replica.
    pub(crate) fn describe(&self) -> Option<Replica> {
        self.lock().state.as_ref().map(|s| s.describe(&self.item))
    }

    /// The machine and the files of a point that is offered.
    pub(crate) fn point(&self, id: PointId) -> Result<(Machine, Files), ProviderError> {
        let inner = self.lock();
        let stored = self.offered(self.state(&inner)?, id)?;
        Ok((self.state(&inner)?.machine.clone(), stored.files.clone()))
    }

    pub(crate) fn pin(&self, id: PointId, pin: Pin) -> Result<(), ProviderError> {
        let mut inner = self.lock();
        let stored = self.offered(self.state(&inner)?, id)?;
        if stored.point.pins.contains(&pin) {
            return Ok(());
        }
        self.record(&mut inner, Record::Pinned { point: id, pin })
    }

    pub(crate) fn unpin(&self, id: PointId, pin: Pin) -> Result<(), ProviderError> {
        let mut inner = self.lock();
        let pinned = self.state(&inner)?.points.iter().any(|p| p.point.id == id && p.point.pins.contains(&pin));
        if !pinned {
            return Ok(());
        }
        self.record(&mut inner, Record::Unpinned { point: id, pin })
    }

    pub(crate) fn withdraw(&self) -> Result<(), ProviderError> {
        let mut inner = self.lock();
        if self.state(&inner)?.withdrawn {
            return Ok(());
        }
        self.record(&mut inner, Record::Withdrawn)
    }

    /// Removes the files of withdrawn points.
    pub(crate) fn remove_points(&self) -> Result<(), ProviderError> {
        let mut inner = self.lock();
        if !self.state(&inner)?.withdrawn {
            return Err(ProviderError::Platform {
                operation: "remove points".to_owned(),
                target: self.item.to_string(),
                detail: "they are not withdrawn".to_owned(),
                applied: provider::Applied::No,
            });
        }
        self.unused()?;
        if !self.state(&inner)?.removed {
            self.record(&mut inner, Record::Removed)?;
        }
        self.sweep(inner.state.as_ref())
    }

    /// Gives the replica up: no point is offered any more, and their files go. [`ItemStore::end_drop`] ends it.
    pub(crate) fn begin_drop(&self) -> Result<bool, ProviderError> {
        let mut inner = self.lock();
        if inner.state.is_none() {
            return Ok(false);
        }
        self.unused()?;
        if !inner.state.as_ref().is_some_and(|s| s.withdrawn) {
            self.record(&mut inner, Record::Withdrawn)?;
        }
        self.record(&mut inner, Record::Removed)?;
        self.sweep(inner.state.as_ref())?;
        Ok(true)
    }

    /// Removes what is left of a replica that was given up.
    pub(crate) fn end_drop(&self) -> Result<(), ProviderError> {
        let mut inner = self.lock();
        for name in durable::names(&self.dir).map_err(failed("list", &self.dir))?.iter().filter(|n| n.starts_with("extents.")) {
            let path = self.dir.join(name);
            durable::remove(&path).map_err(failed("remove", &path))?;
        }
        Journal::remove_all(&self.dir)?;
        (inner.state, inner.journal) = (None, None);
        Ok(())
    }

    /// Prunes what nothing holds any more. What can't be pruned now is taken up again with the next point.
    pub(crate) fn thin(&self) {
        let mut inner = self.lock();
        if inner.state.is_none() {
            return;
        }
        if let Err(error) = prune::prune(self, &mut inner) {
            tracing::warn!(item = %self.item, %error, "could not prune");
        }
    }

    /// The old machine beneath the first point.
    pub(crate) fn old_machine(&self) -> Option<StoredBase> {
        self.lock().state.as_ref().and_then(|s| s.base.as_deref().cloned())
    }

    /// The old machine that was beneath points which are removed.
    pub(crate) fn leaving(&self) -> Option<StoredBase> {
        self.lock().state.as_ref().and_then(|s| s.leaving.as_deref().cloned())
    }

    /// As [`ItemStore::leaving`], if no point was ever made on it.
    pub(crate) fn leaving_unused(&self) -> Option<StoredBase> {
        self.lock().state.as_ref().filter(|s| s.leaving_unused).and_then(|s| s.leaving.as_deref().cloned())
    }

    /// Removes maps of which the journal knows nothing any more.
    pub(super) fn remove_unknown_maps(&self, inner: &Inner) -> Result<(), ProviderError> {
        let known: Vec<String> = self.state(inner)?.extent_maps.keys().map(map_name).collect();
        for name in durable::names(&self.dir).map_err(failed("list", &self.dir))?.iter().filter(|n| n.starts_with("extents.")) {
            if !known.contains(name) {
                let path = self.dir.join(name);
                durable::remove(&path).map_err(failed("remove", &path))?;
            }
        }
        Ok(())
    }

    /// The map that was kept for a generation.
    pub(crate) fn extent_map(&self, generation: Generation) -> Result<Option<ExtentMap>, ProviderError> {
        Ok(self.state(&self.lock())?.extent_maps.get(&generation).cloned())
    }

    /// Keeps a map: its content in a file of its own, its hash in the journal.
    pub(crate) fn keep_extent_map(&self, generation: Generation, map: &ExtentMap, content: &[u8]) -> Result<(), ProviderError> {
        let mut inner = self.lock();
        self.state(&inner)?;
        let path = self.dir.join(map_name(&generation));
        durable::write(&path, content).map_err(failed("write", &path))?;
        self.record(&mut inner, Record::ExtentsKept { generation, map: map.clone() })
    }

    /// The content of the map that was kept for a generation, if it is as it was kept.
    pub(crate) fn extent_map_content(&self, generation: Generation) -> Result<Option<Vec<u8>>, ProviderError> {
        let kept = self.lock().state.as_ref().and_then(|s| s.extent_maps.get(&generation).cloned());
        let Some(kept) = kept else { return Ok(None) };
        let path = self.dir.join(map_name(&generation));
        let content = std::fs::read(&path).map_err(failed("read", &path))?;
        let whole = hex::encode(Sha256::digest(&content)) == kept.hash;
        Ok(whole.then_some(content))
    }

    /// The source's mark of the newest point.
    pub(crate) fn newest_mark(&self) -> Result<Option<String>, ProviderError> {
        Ok(self.state(&self.lock())?.points.last().map(|p| p.mark.clone()))
    }

    /// What the points newer than `id` hold themselves, by disk.
    pub(crate) fn newer_than(&self, id: PointId) -> Result<Vec<(String, Vec<Allocated>)>, ProviderError> {
        let newer: Vec<(String, PathBuf)> = {
            let inner = self.lock();
            let points = self.state(&inner)?.points.iter().filter(|p| p.point.id > id);
            points.flat_map(|p| p.files.iter().map(|(disk, file)| (disk.clone(), self.dir.join(file)))).collect()
        };
        newer.into_iter().map(|(disk, path)| Ok((disk, qemu::allocated(&path)?))).collect()
    }

    /// Refuses if a machine still reads from the points. What a call that came late has left is no machine. The caller holds
    /// the item.
    pub(super) fn unused(&self) -> Result<(), ProviderError> {
        if let Some(bar) = self.guard.bar(&self.item)? {
            machines::sweep(&self.dir, bar)?;
            machines::sweep_copies(&self.dir, &self.guard, &self.item, bar)?;
        }
        if let Some((point, generation)) = machines::read_by_copies(&self.dir)?.first() {
            return Err(ProviderError::PointsInUse { item: self.item.clone(), user: format!("the copy of {point} for test failover {generation}") });
        }
        match machines::dependent(&self.dir)? {
            Some(user) => Err(ProviderError::PointsInUse { item: self.item.clone(), user }),
            None => Ok(()),
        }
    }

    pub(super) fn state<'a>(&self, inner: &'a Inner) -> Result<&'a State, ProviderError> {
        inner.state.as_ref().ok_or_else(|| ProviderError::NoSuchReplica { item: self.item.clone() })
    }

    fn offered<'a>(&self, state: &'a State, id: PointId) -> Result<&'a StoredPoint, ProviderError> {
        if state.withdrawn {
            return Err(ProviderError::PointsWithdrawn { item: self.item.clone() });
        }
        let found = state.offered().find(|p| p.point.id == id);
        found.ok_or_else(|| ProviderError::NoSuchPoint { item: self.item.clone(), point: id })
    }

    /// Makes a record true.
    pub(super) fn record(&self, inner: &mut Inner, record: Record) -> Result<(), ProviderError> {
        self.guard.still_writer()?;
        self.guard.about_to("record");
        if inner.records >= JOURNAL_RECORDS {
            inner.journal = Some(Journal::begin(&self.dir, self.guard.writer(), inner.state.as_ref())?);
            inner.records = 0;
        }
        let journal = inner.journal.as_mut().ok_or_else(|| ProviderError::NoSuchReplica { item: self.item.clone() })?;
        journal.add(&record)?;
        inner.records += 1;
        inner.state = State::after(inner.state.take(), record);
        Ok(())
    }

    /// Deletes point files that the journal does not know. Those of a newer writer are none of ours.
    pub(super) fn sweep(&self, state: Option<&State>) -> Result<(), ProviderError> {
        let known: Vec<&String> = state.iter().flat_map(|s| s.files()).collect();
        for name in durable::names(&self.dir).map_err(failed("list", &self.dir))? {
            let ours = file_writer(&name).is_some_and(|writer| writer <= self.guard.writer());
            if ours && is_point_file(&name) && !known.contains(&&name) {
                self.guard.still_writer()?;
                let path = self.dir.join(&name);
                durable::remove(&path).map_err(failed("remove", &path))?;
            }
        }
        Ok(())
    }

    /// A name that no file of any writer has.
    pub(super) fn new_name(&self, inner: &mut Inner, stem: &str) -> String {
        inner.files_made += 1;
        format!("{stem}-w{}.{}", self.guard.writer(), inner.files_made)
    }

    /// Records a point whose files are in place, and prunes what the policy no longer wants.
    pub(super) fn add_point(&self, inner: &mut Inner, new: NewPoint, files: Files) -> Result<PointId, ProviderError> {
        let NewPoint { generation, mark, consistency, taken_at, bytes, group, kept } = new;
        let id = PointId(self.state(inner)?.last_id + 1);
        let point = Point { id, generation, consistency, taken_at, recorded_at: Utc::now(), bytes, pins: vec![], group };
        self.record(inner, Record::Point { stored: StoredPoint { point, mark, files, kept } })?;
        if let Err(error) = prune::prune(self, inner) {
            // The point is there; pruning is taken up again with the next one.
            tracing::warn!(item = %self.item, %error, "could not prune");
        }
        Ok(id)
    }
}

pub(super) fn enough_space(dir: &Path) -> Result<(), ProviderError> {
    let stat = rustix::fs::statvfs(dir).map_err(|e| failed("ask space of", dir)(e.into()))?;
    let available_bytes = stat.f_bavail * stat.f_frsize;
    if available_bytes < RESERVE_BYTES {
        return Err(ProviderError::NoSpace { path: dir.display().to_string(), needed_bytes: RESERVE_BYTES, available_bytes });
    }
    Ok(())
}

/// Where the map of a generation is kept.
fn map_name(generation: &Generation) -> String {
    format!("extents.{generation}.json")
}

/// Which writer made a point file.
fn file_writer(name: &str) -> Option<i64> {
    name.split_once("-w")?.1.split('.').next()?.parse().ok()
}

/// Whether a name is one that only point files have.
pub(crate) fn is_point_file(name: &str) -> bool {
    let stem = name.strip_suffix(".part").unwrap_or(name);
    stem.ends_with(".qcow2") && (name.starts_with("seed-w") || name.starts_with('p') && name[1..].starts_with(|c: char| c.is_ascii_digit()))
}
