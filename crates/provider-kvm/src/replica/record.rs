//! What the journal says, and the state that follows from it. Pure.

use std::{collections::BTreeMap, path::PathBuf};

use provider::{ExtentMap, Machine, Pin, Point, Replica, group::KeptMoments};
use recovery::{EffectToken, Generation, ItemName, PointId, ReplicationPolicy};
use serde::{Deserialize, Serialize};

/// Files of one point or copy, by disk target.
pub(crate) type Files = BTreeMap<String, String>;

/// A point with what only its own site needs to know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredPoint {
    pub(crate) point: Point,
    /// The source's checkpoint from which the next changes are counted.
    pub(crate) mark: String,
    pub(crate) files: Files,
    /// What the source said of the moments of the item's group; the newest point's counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) kept: Option<KeptMoments>,
}

/// An old machine whose disks lie beneath the first point.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredBase {
    pub(crate) name: String,
    pub(crate) uuid: String,
    /// As it would be started here.
    pub(crate) definition: String,
    /// Absolute paths by disk target. Never written.
    pub(crate) disks: BTreeMap<String, PathBuf>,
    /// What the disks were like when they were taken, by target.
    #[serde(default)]
    pub(crate) stamps: BTreeMap<String, String>,
    /// Marks from which all disks know what was changed after them; none if that is in doubt.
    pub(crate) marks: Vec<String>,
    /// Names the recovered machine that it was; `None` if it was there before us.
    pub(crate) ours: Option<EffectToken>,
    /// It was retired before it became a base.
    #[serde(default)]
    pub(crate) was_retired: bool,
}

/// One line of the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "record")]
pub(crate) enum Record {
    /// The first line of every journal file.
    Opened { version: u32, state: Option<Box<State>> },
    Prepared {
        generation: Generation,
        machine: Machine,
        policy: ReplicationPolicy,
        /// The replica begins anew: everything before is gone, only numbers of points go on.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        anew: bool,
        /// Only with a replica that begins.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        base: Option<Box<StoredBase>>,
    },
    Sealed { generation: Generation },
    /// A first copy is being received into these files.
    Seeding { files: Files },
    Point { stored: StoredPoint },
    /// From here on the point is not offered; its files are being overwritten.
    Pruning { point: PointId },
    /// The point above it has its files now.
    Pruned { point: PointId },
    Pinned { point: PointId, pin: Pin },
    Unpinned { point: PointId, pin: Pin },
    ExtentsKept { generation: Generation, map: ExtentMap },
    Withdrawn,
    /// The points' files are being removed.
    Removed,
}

/// A replica as its journal describes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct State {
    pub(crate) generation: Generation,
    pub(crate) sealed: bool,
    pub(crate) withdrawn: bool,
    pub(crate) removed: bool,
    pub(crate) machine: Machine,
    pub(crate) policy: ReplicationPolicy,
    /// Each one's files lie on those of the one before it.
    pub(crate) points: Vec<StoredPoint>,
    pub(crate) last_id: u64,
    pub(crate) seeding: Option<Files>,
    pub(crate) pruning: Option<PointId>,
    pub(crate) extent_maps: BTreeMap<Generation, ExtentMap>,
    /// What the first point lies on.
    #[serde(default)]
    pub(crate) base: Option<Box<StoredBase>>,
    /// What it had lain on: what is ours of it is being removed.
    #[serde(default)]
    pub(crate) leaving: Option<Box<StoredBase>>,
    /// No point was ever made on what it had lain on: that is given back and not removed.
    #[serde(default)]
    pub(crate) leaving_unused: bool,
}

impl State {
    /// The state after one more record; `None` before the first `Prepared`.
    pub(crate) fn after(state: Option<State>, record: Record) -> Option<State> {
        let mut state = match (state, record) {
            (_, Record::Opened { state, .. }) => return state.map(|state| *state),
            (None, Record::Prepared { generation, machine, policy, base, .. }) => {
                return Some(State { base, ..State::new(generation, machine, policy) });
            }
            (Some(earlier), Record::Prepared { generation, machine, policy, base, anew: true }) => {
                return Some(State { base, last_id: earlier.last_id, ..State::new(generation, machine, policy) });
            }
            (None, _) => return None,
            (Some(mut state), record) => {
                state.apply(record);
                state
            }
        };
        state.points.sort_by_key(|p| p.point.id);
        Some(state)
    }

    fn new(generation: Generation, machine: Machine, policy: ReplicationPolicy) -> Self {
        Self {
            generation,
            sealed: false,
            withdrawn: false,
            removed: false,
            machine,
            policy,
            points: vec![],
            last_id: 0,
            seeding: None,
            pruning: None,
            extent_maps: BTreeMap::new(),
            base: None,
            leaving: None,
            leaving_unused: false,
        }
    }

    fn apply(&mut self, record: Record) {
        match record {
            Record::Opened { .. } => {}
            Record::Prepared { generation, machine, policy, .. } => {
                (self.generation, self.sealed, self.machine, self.policy) = (generation, false, machine, policy);
            }
            Record::Sealed { generation } => (self.generation, self.sealed) = (generation, true),
            Record::Seeding { files } => self.seeding = Some(files),
            Record::Point { stored } => {
                self.last_id = self.last_id.max(stored.point.id.0);
                self.seeding = None;
                self.points.push(stored);
            }
            Record::Pruning { point } => self.pruning = Some(point),
            Record::Pruned { point } => {
                self.pruning = None;
                if let Some(at) = self.points.iter().position(|p| p.point.id == point) {
                    let files = self.points.remove(at).files;
                    if let Some(above) = self.points.get_mut(at) {
                        above.files = files;
                    }
                }
            }
            Record::Pinned { point, pin } => {
                for pins in self.pins(point) {
                    if let Err(at) = pins.binary_search(&pin) {
                        pins.insert(at, pin.clone());
                    }
                }
            }
            Record::Unpinned { point, pin } => self.pins(point).for_each(|pins| pins.retain(|p| *p != pin)),
            Record::ExtentsKept { generation, map } => {
                self.extent_maps.insert(generation, map);
            }
            Record::Withdrawn => (self.withdrawn, self.sealed) = (true, true),
            Record::Removed => {
                (self.removed, self.seeding, self.pruning) = (true, None, None);
                if let Some(base) = self.base.take() {
                    // The newest point is never pruned: where there is none, there never was one.
                    (self.leaving, self.leaving_unused) = (Some(base), self.points.is_empty());
                }
                self.points.clear();
            }
        }
    }

    fn pins(&mut self, point: PointId) -> impl Iterator<Item = &mut Vec<Pin>> {
        self.points.iter_mut().filter(move |p| p.point.id == point).map(|p| &mut p.point.pins)
    }

    /// Points that may be chosen.
    pub(crate) fn offered(&self) -> impl Iterator<Item = &StoredPoint> {
        self.points.iter().filter(|p| !self.withdrawn && self.pruning != Some(p.point.id))
    }

    pub(crate) fn describe(&self, item: &ItemName) -> Replica {
        Replica {
            item: item.clone(),
            generation: self.generation,
            sealed: self.sealed,
            withdrawn: self.withdrawn,
            points: self.offered().map(|p| p.point.clone()).collect(),
            machine: self.machine.clone(),
            policy: self.policy.clone(),
        }
    }

    /// Every file that the journal knows.
    pub(crate) fn files(&self) -> impl Iterator<Item = &String> {
        self.points.iter().flat_map(|p| p.files.values()).chain(self.seeding.iter().flat_map(|f| f.values()))
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails where its sentence does not hold")]
mod tests {
    use super::*;

    /// As it was written before points had moments.
    const EARLIER: &str = r#"{"record":"point","stored":{"point":{"id":7,"generation":"e1-g2","consistency":"crash","taken_at":"2026-01-02T03:04:05Z","recorded_at":"2026-01-02T03:04:06Z","bytes":65536,"pins":["kept"]},"mark":"sb.e1-g2.w3.4","files":{"vda":"p7-w3.9.vda.qcow2"}}}"#;

    #[test]
    fn a_point_from_before_there_were_moments_reads_as_one_without_and_is_written_as_it_was() {
        let record: Record = serde_json::from_str(EARLIER).unwrap();
        let Record::Point { stored } = &record else { panic!("it is a point: {record:?}") };
        assert_eq!((stored.point.id, &stored.point.group, &stored.kept), (PointId(7), &None, &None));
        assert_eq!(serde_json::to_string(&record).unwrap(), EARLIER);
    }

    #[test]
    fn a_moment_and_what_is_kept_read_back() {
        let Ok(Record::Point { mut stored }) = serde_json::from_str(EARLIER) else { panic!("it is a point") };
        let group: recovery::GroupName = "shop".parse().unwrap();
        stored.point.group = Some(recovery::GroupMoment { group: group.clone(), moment: "a-w3.1-99".into() });
        stored.kept = Some(KeptMoments { group, moments: ["a-w3.0-80".to_owned(), "a-w3.1-99".to_owned()].into() });
        let text = serde_json::to_string(&Record::Point { stored: stored.clone() }).unwrap();
        assert_eq!(serde_json::from_str::<Record>(&text).unwrap(), Record::Point { stored });
    }
}
