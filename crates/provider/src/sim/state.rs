//! The data of a simulated world.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use recovery::{EffectToken, Generation, ItemName, PointId, SiteName};

use super::{BLOCK_BYTES, effect::Planned, ledger::Ledger};
use crate::{
    Definition, Disk, ExtentMap, FenceProof, ItemReport, Machine, NetworkChoice, Point, PowerState, ProviderError, Replica,
    Replicate, ReplicationStatus,
};

/// A block of a machine: which disk, which block.
pub(super) type Address = (String, u64);
/// What disks hold; a block that is not there is zero.
pub(super) type Blocks = BTreeMap<Address, u64>;

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) sites: BTreeMap<SiteName, SiteState>,
    pub(super) ledger: Ledger,
    pub(super) planned: Vec<Planned>,
    /// Items whose next append is cut midway.
    pub(super) torn: BTreeSet<ItemName>,
}

#[derive(Debug, Default)]
pub(super) struct SiteState {
    pub(super) down: bool,
    pub(super) machines: BTreeMap<String, SimMachine>,
    /// Greatest token seen.
    pub(super) bars: BTreeMap<ItemName, EffectToken>,
    pub(super) replicas: BTreeMap<ItemName, SimReplica>,
    pub(super) loops: BTreeMap<ItemName, SimLoop>,
    pub(super) recovered: BTreeMap<ItemName, SimRecovered>,
    pub(super) fences: BTreeMap<ItemName, SimFence>,
    pub(super) reported: BTreeMap<ItemName, ItemReport>,
}

#[derive(Debug)]
pub(super) struct SimMachine {
    pub(super) uuid: String,
    pub(super) power: PowerState,
    pub(super) autostart: bool,
    pub(super) disks: Vec<Disk>,
    pub(super) blocks: Blocks,
    /// What was written since `mark`.
    pub(super) dirty: BTreeSet<Address>,
    /// The append from which changes are counted; lost by a power failure.
    pub(super) mark: Option<u64>,
}

#[derive(Debug)]
pub(super) struct SimReplica {
    pub(super) generation: Generation,
    pub(super) sealed: bool,
    pub(super) withdrawn: bool,
    pub(super) removed: bool,
    pub(super) wanted: crate::PrepareReplica,
    pub(super) points: Vec<SimPoint>,
    pub(super) last_id: u64,
    /// Blocks of an append that was cut.
    pub(super) part: Option<Blocks>,
    pub(super) extent_maps: BTreeMap<Generation, ExtentMap>,
}

#[derive(Debug)]
pub(super) struct SimPoint {
    pub(super) point: Point,
    /// The whole disks at that point.
    pub(super) blocks: Blocks,
    pub(super) mark: u64,
}

#[derive(Debug)]
pub(super) struct SimLoop {
    pub(super) wanted: Replicate,
    pub(super) status: ReplicationStatus,
}

#[derive(Debug)]
pub(super) struct SimRecovered {
    pub(super) token: EffectToken,
    pub(super) generation: Generation,
    pub(super) point: PointId,
    pub(super) machine: String,
    pub(super) network: NetworkChoice,
    pub(super) started: Option<DateTime<Utc>>,
    pub(super) power: PowerState,
    pub(super) standalone: bool,
    pub(super) blocks: Blocks,
    /// Since it was started.
    pub(super) written: BTreeSet<Address>,
}

#[derive(Debug)]
pub(super) struct SimFence {
    pub(super) token: EffectToken,
    pub(super) proof: FenceProof,
    pub(super) was_running: bool,
    pub(super) had_autostart: bool,
}

impl SimMachine {
    pub(super) fn describe(&self, name: &str) -> Machine {
        Machine {
            name: name.to_owned(),
            uuid: self.uuid.clone(),
            power: self.power,
            autostart: self.autostart,
            disks: self.disks.clone(),
            definition: Definition(format!("simulated machine {name}")),
        }
    }

    /// Whether the block lies on one of the machine's disks.
    pub(super) fn has(&self, (target, block): &Address) -> bool {
        self.disks.iter().any(|d| d.target == *target && block * BLOCK_BYTES < d.capacity_bytes)
    }
}

impl SimReplica {
    pub(super) fn describe(&self) -> Replica {
        let offered = if self.withdrawn { vec![] } else { self.points.iter().map(|p| p.point.clone()).collect() };
        Replica {
            item: self.wanted.item.clone(),
            generation: self.generation,
            sealed: self.sealed,
            withdrawn: self.withdrawn,
            points: offered,
            machine: self.wanted.machine.clone(),
            policy: self.wanted.policy.clone(),
        }
    }

    /// A point that is offered.
    pub(super) fn offered(&self, id: PointId) -> Result<&SimPoint, ProviderError> {
        let item = &self.wanted.item;
        if self.withdrawn {
            return Err(ProviderError::PointsWithdrawn { item: item.clone() });
        }
        let found = self.points.iter().find(|p| p.point.id == id);
        found.ok_or_else(|| ProviderError::NoSuchPoint { item: item.clone(), point: id })
    }
}

impl SiteState {
    pub(super) fn machine(&mut self, name: &str) -> Result<&mut SimMachine, ProviderError> {
        self.machines.get_mut(name).ok_or_else(|| ProviderError::NoSuchMachine { machine: name.to_owned() })
    }

    pub(super) fn replica(&mut self, item: &ItemName) -> Result<&mut SimReplica, ProviderError> {
        self.replicas.get_mut(item).ok_or_else(|| ProviderError::NoSuchReplica { item: item.clone() })
    }

    /// The recovered machine of exactly that generation.
    pub(super) fn recovered(&mut self, item: &ItemName, generation: Generation) -> Result<&mut SimRecovered, ProviderError> {
        match self.recovered.get_mut(item) {
            Some(r) if r.generation == generation => Ok(r),
            Some(r) if r.generation > generation => {
                Err(ProviderError::Superseded { item: item.clone(), given: generation, newest: r.generation })
            }
            Some(_) | None => Err(ProviderError::NotRecovered { item: item.clone(), generation }),
        }
    }

    /// Refuses an older token than the greatest seen, else remembers it.
    pub(super) fn show(&mut self, item: &ItemName, given: EffectToken) -> Result<(), ProviderError> {
        let seen = self.bars.entry(item.clone()).or_insert(given);
        if given < *seen {
            return Err(ProviderError::StaleToken { item: item.clone(), given, seen: *seen });
        }
        *seen = given;
        Ok(())
    }
}
