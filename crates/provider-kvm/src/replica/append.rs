//! A point that is being written: overlays under temporary names, each behind a server of its own.
//!
//! Dropped without `commit` it leaves files that the next sweep deletes, except those of a first copy, which are kept so that
//! the copy can go on.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use provider::ProviderError;
use recovery::{Generation, PointId};

use super::{
    MAX_CHAIN, Record, prune,
    record::{Files, State},
    store::{ItemStore, NewPoint, enough_space},
};
use crate::{
    blocks::Runs,
    durable::{self, failed},
    machines,
    qemu::{self, Access, Served},
};

/// What the source finds here when it comes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Base {
    /// The newest point, with the source's mark of it.
    pub(crate) newest: Option<(PointId, String)>,
    /// A first copy was begun and can go on.
    pub(crate) seed: bool,
    /// The first point lies on an old machine's disks, which know their changes since these marks.
    pub(crate) old_marks: Option<Vec<String>>,
}

/// A point that is being written.
#[derive(Debug)]
pub(crate) struct Append {
    store: Arc<ItemStore>,
    generation: Generation,
    base: Option<PointId>,
    files: Files,
    disks: BTreeMap<String, Served>,
}

impl ItemStore {
    /// What there is to build on, for a source of this generation.
    pub(crate) fn base(&self, generation: Generation) -> Result<Base, ProviderError> {
        // An agent that was replaced may still hear sources; what it knows is of the past.
        self.guard.still_writer()?;
        let inner = self.lock();
        if inner.state.is_none() {
            // The replica was given up, but what was started here may live on.
            self.runs_here(generation)?;
        }
        let state = self.state(&inner)?;
        if state.sealed || generation != state.generation {
            self.runs_here(generation)?;
            return Err(ProviderError::Superseded { item: self.item.clone(), given: generation, newest: state.generation });
        }
        let newest = state.points.last().map(|p| (p.point.id, p.mark.clone()));
        Ok(Base { newest, seed: state.seeding.is_some(), old_marks: state.base.as_ref().map(|b| b.marks.clone()) })
    }

    /// Refuses a source whose machine was started here meanwhile, by a newer generation.
    fn runs_here(&self, generation: Generation) -> Result<(), ProviderError> {
        for (newest, record) in machines::records(&self.dir)?.into_iter().rev() {
            let started = record.started(&self.dir)?.filter(|_| newest > generation && !record.retired(&self.dir));
            if let Some(since) = started {
                return Err(ProviderError::RunsHere { item: self.item.clone(), site: self.site.clone(), newest, since });
            }
        }
        Ok(())
    }

    /// Refuses if somebody has written to the old machine's disks: every point that lies on them reads wrong then.
    fn old_disks_untouched(&self, state: &State) -> Result<(), ProviderError> {
        let Some(base) = &state.base else { return Ok(()) };
        for (target, path) in &base.disks {
            let now = durable::stamp(path).map_err(failed("look at", path))?;
            if let Some(then) = base.stamps.get(target).filter(|then| **then != now) {
                let path = path.display();
                let detail = format!("{path}, on which its points lie, had {then} and now has {now}: somebody has used the old machine");
                return Err(ProviderError::Damaged { item: self.item.clone(), detail });
            }
        }
        Ok(())
    }

    /// The blocks of an old machine's disk that were written after a mark; an error if the marks do not say it.
    pub(crate) fn old_disk_written(&self, run_dir: &std::path::Path, target: &str, mark: &str) -> Result<Runs, ProviderError> {
        let path = self.old_machine().and_then(|base| base.disks.get(target).cloned());
        let mismatch = |reason: String| ProviderError::ReplicaMismatch { item: self.item.clone(), reason };
        let path = path.ok_or_else(|| mismatch(format!("no old machine's disk {target} lies beneath it")))?;
        let written = qemu::written_since(run_dir, &path, mark)?;
        written.ok_or_else(|| mismatch(format!("{} does not know its changes since {mark}", path.display())))
    }

    /// Begins a point on the newest one; the first one on an old machine's disks if there are any, on the copy that was begun if
    /// `resume`, else on nothing.
    pub(crate) fn begin(self: &Arc<Self>, generation: Generation, resume: bool, run_dir: &std::path::Path) -> Result<Append, ProviderError> {
        self.base(generation)?;
        enough_space(&self.dir)?;
        let mut inner = self.lock();
        if self.state(&inner)?.points.len() >= MAX_CHAIN {
            // What kept points from being pruned may have gone since.
            prune::prune(self, &mut inner)?;
        }
        let state = self.state(&inner)?;
        if state.points.len() >= MAX_CHAIN {
            return Err(ProviderError::Busy {
                operation: "append".to_owned(),
                target: self.item.to_string(),
                detail: format!("{} points can't be pruned because a machine runs on them or they are pinned", state.points.len()),
            });
        }
        let disks = state.machine.disks.clone();
        self.old_disks_untouched(state)?;
        let base = state.points.last().map(|p| (p.point.id, p.files.clone()));
        let old_disks = state.base.as_ref().map(|b| b.disks.clone());
        let seed = state.seeding.clone().filter(|_| resume && base.is_none());
        let files = match seed {
            Some(files) => files,
            None => {
                let stem = match &base {
                    Some(_) => format!("p{}", self.state(&inner)?.last_id + 1),
                    None => "seed".to_owned(),
                };
                let stem = self.new_name(&mut inner, &stem);
                let files: Files = disks.iter().map(|d| (d.target.clone(), format!("{stem}.{}.qcow2.part", d.target))).collect();
                for disk in &disks {
                    let path = self.dir.join(&files[&disk.target]);
                    let point = base.as_ref().and_then(|(_, below)| below.get(&disk.target));
                    let old_disk = old_disks.as_ref().and_then(|disks| disks.get(&disk.target));
                    match (point, old_disk) {
                        (Some(below), _) => qemu::create_on(&path, &self.dir.join(below))?,
                        (None, Some(old)) => qemu::create_on(&path, old)?,
                        (None, None) => qemu::create(&path, disk.capacity_bytes)?,
                    }
                }
                if base.is_none() {
                    self.record(&mut inner, Record::Seeding { files: files.clone() })?;
                    self.sweep(inner.state.as_ref())?;
                }
                files
            }
        };
        drop(inner);
        let mut served = BTreeMap::new();
        for (disk, file) in &files {
            served.insert(disk.clone(), Served::open(run_dir, &self.dir.join(file), Access::Write, None)?);
        }
        Ok(Append { store: self.clone(), generation, base: base.map(|(id, _)| id), files, disks: served })
    }
}

impl Append {
    fn disk(&mut self, target: &str) -> Result<&mut Served, ProviderError> {
        let item = &self.store.item;
        let mismatch = || ProviderError::ReplicaMismatch { item: item.clone(), reason: format!("it has no disk {target}") };
        self.disks.get_mut(target).ok_or_else(mismatch)
    }

    /// Writes content.
    pub(crate) fn write(&mut self, target: &str, offset: u64, content: &[u8]) -> Result<(), ProviderError> {
        let disk = self.disk(target)?;
        let written = disk.client()?.write(offset, content);
        written.map_err(|e| disk.error(&e))
    }

    /// Writes zeroes.
    pub(crate) fn zero(&mut self, target: &str, offset: u64, length: u64) -> Result<(), ProviderError> {
        let disk = self.disk(target)?;
        let written = disk.client()?.write_zeroes(offset, length);
        written.map_err(|e| disk.error(&e))
    }

    /// Reads what the point would hold now.
    pub(crate) fn read(&mut self, target: &str, offset: u64, out: &mut [u8]) -> Result<(), ProviderError> {
        let disk = self.disk(target)?;
        let read = disk.client()?.read(offset, out);
        read.map_err(|e| disk.error(&e))
    }

    /// Makes it a point. When this returns, the point is there and stays there.
    pub(crate) fn commit(mut self, new: NewPoint) -> Result<PointId, ProviderError> {
        let store = self.store.clone();
        store.guard.still_writer()?;
        for served in std::mem::take(&mut self.disks).into_values() {
            served.close()?;
        }
        for file in self.files.values() {
            let path = store.dir.join(file);
            durable::sync_file(&path).map_err(failed("sync", &path))?;
        }
        store.base(self.generation)?;
        let mut inner = store.lock();
        let newest = store.state(&inner)?.points.last().map(|p| p.point.id);
        if newest != self.base {
            return Err(ProviderError::Busy {
                operation: "append".to_owned(),
                target: store.item.to_string(),
                detail: "another stream has appended meanwhile".to_owned(),
            });
        }
        store.guard.still_writer()?;
        let stem = format!("p{}", store.state(&inner)?.last_id + 1);
        let stem = store.new_name(&mut inner, &stem);
        let mut finals = Files::new();
        for (disk, part) in &self.files {
            let (from, name) = (store.dir.join(part), format!("{stem}.{disk}.qcow2"));
            let to: PathBuf = store.dir.join(&name);
            std::fs::rename(&from, &to).map_err(failed("rename", &from))?;
            finals.insert(disk.clone(), name);
        }
        durable::sync_dir(&store.dir).map_err(failed("sync", &store.dir))?;
        store.add_point(&mut inner, new, finals)
    }

    /// Gives it up. A first copy stays, to go on later.
    pub(crate) fn abandon(self) {
        let Self { store, base, files, disks, .. } = self;
        drop(disks);
        if base.is_none() {
            return;
        }
        for file in files.values() {
            let path = store.dir.join(file);
            if let Err(error) = durable::remove(&path) {
                tracing::warn!(path = %path.display(), %error, "could not remove a part");
            }
        }
    }
}
