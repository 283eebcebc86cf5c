//! What a loop is to do and has done, in a file of this writer; the greatest writer's counts.

use std::{collections::BTreeMap, fs, path::{Path, PathBuf}};

use chrono::{DateTime, Utc};
use provider::{ProviderError, Replicate, Requested};
use recovery::PointId;
use serde::{Deserialize, Serialize};

use crate::durable::{self, failed};

/// Why a loop does not go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Ended {
    Stopped,
    /// The target had a newer generation; it is asked on whether the machine was started there.
    Superseded,
    /// The machine was started elsewhere.
    Quarantined,
}

/// The last point of a machine that is off.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FinalSync {
    pub(crate) point: PointId,
    /// What the disks were like, by target.
    pub(crate) disks: BTreeMap<String, String>,
}

/// A loop.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LoopRecord {
    pub(crate) version: u32,
    pub(crate) wanted: Replicate,
    pub(crate) ended: Option<Ended>,
    /// Acknowledged by the target, with the time at which it was taken.
    pub(crate) last_point: Option<(PointId, DateTime<Utc>)>,
    /// The newest app-consistent one among them.
    #[serde(default)]
    pub(crate) last_app_point: Option<(PointId, DateTime<Utc>)>,
    pub(crate) bytes_sent_total: u64,
    /// If it ended with one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) final_sync: Option<FinalSync>,
    /// The last request for a point beside the loop's rhythm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) requested: Option<Requested>,
}

impl LoopRecord {
    pub(crate) fn new(wanted: Replicate) -> Self {
        Self { version: 1, wanted, ended: None, last_point: None, last_app_point: None, bytes_sent_total: 0, final_sync: None, requested: None }
    }

    fn path(dir: &Path, writer: i64) -> PathBuf {
        dir.join(format!("loop-w{writer}.json"))
    }

    fn writer(name: &str) -> Option<i64> {
        name.strip_prefix("loop-w")?.strip_suffix(".json")?.parse().ok()
    }

    /// The record in force, if there is one.
    pub(crate) fn read(dir: &Path) -> Result<Option<Self>, ProviderError> {
        let names = durable::names(dir).map_err(failed("list", dir))?;
        let Some(writer) = names.iter().filter_map(|n| Self::writer(n)).max() else { return Ok(None) };
        let path = Self::path(dir, writer);
        let content = fs::read(&path).map_err(failed("read", &path))?;
        serde_json::from_slice(&content).map(Some).map_err(|e| failed("read", &path)(e.into()))
    }

    /// Makes it the record in force, as long as no newer writer has one.
    pub(crate) fn store(&self, dir: &Path, writer: i64) -> Result<(), ProviderError> {
        durable::make_dir(dir).map_err(failed("make directory", dir))?;
        let path = Self::path(dir, writer);
        let json = serde_json::to_vec(self).map_err(|e| failed("write", &path)(e.into()))?;
        durable::write(&path, &json).map_err(failed("write", &path))?;
        for name in durable::names(dir).map_err(failed("list", dir))? {
            if Self::writer(&name).is_some_and(|w| w < writer) {
                let path = dir.join(name);
                durable::remove(&path).map_err(failed("remove", &path))?;
            }
        }
        Ok(())
    }
}

/// The machine that the loop recorded in `dir` is or was about.
pub(crate) fn machine_of(dir: &Path) -> Result<Option<String>, ProviderError> {
    Ok(LoopRecord::read(dir)?.map(|record| record.wanted.machine))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails where its sentence does not hold")]
mod tests {
    use provider::Endpoint;
    use recovery::{Generation, ReplicationPolicy};

    use super::*;

    #[test]
    fn the_greatest_writers_record_counts_whenever_others_write() {
        let dir = tempfile::tempdir().unwrap();
        let wanted = Replicate {
            item: "vm".parse().unwrap(),
            machine: "vm".into(),
            generation: Generation { era: 1, grant_epoch: 1 },
            policy: ReplicationPolicy::default(),
            endpoint: Endpoint { address: "x:1".into(), tls_name: "x".into() },
            returning: None,
            group: None,
        };
        let early = LoopRecord::new(wanted);
        let later = LoopRecord { ended: Some(Ended::Stopped), ..early.clone() };
        assert_eq!(LoopRecord::read(dir.path()).unwrap(), None);
        early.store(dir.path(), 3).unwrap();
        later.store(dir.path(), 4).unwrap();
        assert_eq!(durable::names(dir.path()).unwrap(), ["loop-w4.json"]);
        early.store(dir.path(), 3).unwrap();
        assert_eq!(LoopRecord::read(dir.path()).unwrap(), Some(later));
    }
}
