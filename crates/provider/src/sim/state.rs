//! The data of a simulated world.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use recovery::{EffectToken, Generation, GroupName, ItemName, PointId, SiteName};

use super::{
    actions::{ActionEntry, ActionKey},
    effect::Planned,
    ledger::Ledger,
    machine::{Address, Blocks, Guest, Origin, SimMachine, protectable},
    network::NetworkLog,
};
use crate::{
    ExtentMap, FenceProof, ItemReport, Machine, NetworkChoice, Phase, Point, ProviderError, Replica, Replicate, ReplicationStatus,
    TestStarted,
    group::{GroupLog, KeptMoments},
};

#[derive(Debug, Default, Clone)]
pub(super) struct State {
    pub(super) sites: BTreeMap<SiteName, SiteState>,
    pub(super) ledger: Ledger,
    /// What was done of the actions of plans.
    pub(super) actions: BTreeMap<ActionKey, ActionEntry>,
    /// Names of steps that are to fail, and how often; `None` is for ever.
    pub(super) failing: BTreeMap<String, Option<u32>>,
    pub(super) planned: Vec<Planned>,
    /// Items whose next append is cut midway.
    pub(super) torn: BTreeSet<ItemName>,
    /// Items whose next append is made, and its answer lost.
    pub(super) unanswered: BTreeSet<ItemName>,
    /// Pairs of sites between which nothing passes, the smaller name first.
    pub(super) cut: BTreeSet<(SiteName, SiteName)>,
    /// The last one given.
    pub(super) last_mark: u64,
    /// How many moments of groups were named.
    pub(super) moments: u64,
    pub(super) network: NetworkLog,
}

#[derive(Debug, Default, Clone)]
pub(super) struct SiteState {
    pub(super) down: bool,
    /// All that the hypervisor knows, by name.
    pub(super) machines: BTreeMap<String, SimMachine>,
    /// By machine.
    pub(super) guests: BTreeMap<String, Guest>,
    /// Greatest token seen.
    pub(super) bars: BTreeMap<ItemName, EffectToken>,
    pub(super) replicas: BTreeMap<ItemName, SimReplica>,
    pub(super) loops: BTreeMap<ItemName, SimLoop>,
    /// Of groups whose members are or were replicated from here.
    pub(super) groups: BTreeMap<GroupName, GroupLog>,
    pub(super) recovered: BTreeMap<(ItemName, Generation), SimRecovered>,
    pub(super) copies: BTreeMap<ItemName, SimCopy>,
    /// Items whose test network can be reached from elsewhere.
    pub(super) leaks: BTreeSet<ItemName>,
    pub(super) fences: BTreeMap<ItemName, SimFence>,
    /// Disks of users' machines that were a base and are none any more: they are theirs.
    pub(super) left_alone: Vec<SimMachine>,
    pub(super) reported: BTreeMap<ItemName, ItemReport>,
    /// What its host has; plenty if nobody said.
    pub(super) capacity: Option<recovery::readiness::Capacity>,
    /// What its agent can do beside its machines.
    pub(super) actions: recovery::readiness::ActionsReport,
}

#[derive(Debug, Clone)]
pub(super) struct SimReplica {
    pub(super) generation: Generation,
    pub(super) sealed: bool,
    pub(super) withdrawn: bool,
    pub(super) removed: bool,
    pub(super) wanted: crate::PrepareReplica,
    /// As it would be recovered.
    pub(super) machine: Machine,
    pub(super) base: Option<SimBase>,
    pub(super) points: Vec<SimPoint>,
    pub(super) last_id: u64,
    /// Blocks of an append that was cut.
    pub(super) part: Option<Blocks>,
    pub(super) extent_maps: BTreeMap<Generation, KeptMap>,
}

/// The old machine whose disks lie beneath the first point. Off, unknown to the hypervisor, never written.
#[derive(Debug, Clone)]
pub(super) struct SimBase {
    pub(super) name: String,
    pub(super) machine: SimMachine,
    /// What is recorded of it, if a recovery made it: kept for the case that nothing is ever received onto it.
    pub(super) made: Option<(Generation, SimRecovered)>,
}

#[derive(Debug, Clone)]
pub(super) struct KeptMap {
    pub(super) map: ExtentMap,
    pub(super) blocks: BTreeSet<Address>,
    /// The append that it is relative to; `None` if the newest point has no mark.
    pub(super) since: Option<u64>,
}

#[derive(Debug, Clone)]
pub(super) struct SimPoint {
    pub(super) point: Point,
    /// The whole disks at that point.
    pub(super) blocks: Blocks,
    /// What the source counts changes from; `None` if it does not.
    pub(super) mark: Option<u64>,
}

#[derive(Debug, Clone)]
pub(super) struct SimLoop {
    pub(super) wanted: Replicate,
    pub(super) status: ReplicationStatus,
    /// What the final sync made.
    pub(super) final_point: Option<PointId>,
    /// When an app-consistent point was last tried.
    pub(super) app_tried_at: Option<DateTime<Utc>>,
    /// Its host has booted then, and the machine is to be started unless it runs elsewhere.
    pub(super) booted_at: Option<DateTime<Utc>>,
}

/// A machine that a recovery made.
#[derive(Debug, Clone)]
pub(super) struct SimRecovered {
    pub(super) token: EffectToken,
    pub(super) point: PointId,
    pub(super) name: String,
    pub(super) network: NetworkChoice,
    pub(super) started: Option<DateTime<Utc>>,
    pub(super) standalone: bool,
    pub(super) retired: bool,
    /// While the hypervisor does not know it: not started yet, or retired.
    pub(super) held: Option<SimMachine>,
    /// The item's fenced machine, which had the name.
    pub(super) displaced: Option<SimMachine>,
}

/// A copy for a test.
#[derive(Debug, Clone)]
pub(super) struct SimCopy {
    pub(super) token: EffectToken,
    pub(super) generation: Generation,
    pub(super) point: PointId,
    pub(super) name: String,
    pub(super) network: String,
    pub(super) started: Option<TestStarted>,
    /// Until it is started.
    pub(super) held: Option<SimMachine>,
}

#[derive(Debug, Clone)]
pub(super) struct SimFence {
    pub(super) token: EffectToken,
    /// Which machine: another one may bear its name later.
    pub(super) uuid: String,
    pub(super) proof: FenceProof,
    pub(super) was_running: bool,
    pub(super) had_autostart: bool,
}

impl State {
    pub(super) fn note_networks(&mut self, now: DateTime<Utc>) {
        self.network.note(self.sites.iter(), now);
    }

    pub(super) fn line(one: &SiteName, other: &SiteName) -> (SiteName, SiteName) {
        if one < other { (one.clone(), other.clone()) } else { (other.clone(), one.clone()) }
    }

    pub(super) fn is_cut(&self, one: &SiteName, other: &SiteName) -> bool {
        self.cut.contains(&Self::line(one, other))
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
            machine: self.machine.clone(),
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

impl SimLoop {
    /// Ends it for good.
    pub(super) fn end(&mut self, phase: Phase) {
        self.status.phase = phase;
        self.booted_at = None;
    }

    /// Whether it will never do anything again.
    pub(super) fn ended(&self) -> bool {
        matches!(self.status.phase, Phase::Stopped | Phase::Quarantined)
    }
}

impl SiteState {
    pub(super) fn machine(&mut self, name: &str) -> Result<&mut SimMachine, ProviderError> {
        self.machines.get_mut(name).ok_or_else(|| ProviderError::NoSuchMachine { machine: name.to_owned() })
    }

    /// Describes a machine that can be replicated.
    pub(super) fn protectable(&self, name: &str) -> Result<Machine, ProviderError> {
        let machine = self.machines.get(name).ok_or_else(|| ProviderError::NoSuchMachine { machine: name.to_owned() })?;
        let refused = |reason: &str| ProviderError::NotProtectable { machine: name.to_owned(), reason: reason.to_owned() };
        match &machine.origin {
            Origin::Copy { .. } => return Err(refused("it is a copy for a test")),
            Origin::Recovered { item, generation } if !self.recovered.get(&(item.clone(), *generation)).is_some_and(|r| r.standalone) => {
                return Err(refused("its disks still read from recovery points; commit the failover first"));
            }
            Origin::Recovered { .. } | Origin::Original => {}
        }
        protectable(machine.describe(name))
    }

    /// What the target of that loop is told of the moments of its group.
    pub(super) fn kept_moments(&self, wanted: &Replicate) -> Option<KeptMoments> {
        wanted.group.as_ref().and_then(|group| self.groups.get(group.name())).map(GroupLog::kept)
    }

    pub(super) fn guest(&self, name: &str) -> Guest {
        self.guests.get(name).copied().unwrap_or_default()
    }

    pub(super) fn replica(&mut self, item: &ItemName) -> Result<&mut SimReplica, ProviderError> {
        self.replicas.get_mut(item).ok_or_else(|| ProviderError::NoSuchReplica { item: item.clone() })
    }

    /// What recoveries made of an item, oldest first.
    pub(super) fn all_recovered(&self, item: &ItemName) -> impl DoubleEndedIterator<Item = (Generation, &SimRecovered)> {
        let first = (item.clone(), Generation { era: 0, grant_epoch: 0 });
        let last = (item.clone(), Generation { era: i64::MAX, grant_epoch: i64::MAX });
        self.recovered.range(first..=last).map(|((_, generation), r)| (*generation, r))
    }

    /// What was recovered under exactly that generation.
    pub(super) fn recovered(&mut self, item: &ItemName, generation: Generation) -> Result<&mut SimRecovered, ProviderError> {
        if let Some((newest, _)) = self.all_recovered(item).next_back().filter(|(newest, _)| *newest > generation) {
            return Err(ProviderError::Superseded { item: item.clone(), given: generation, newest });
        }
        let found = self.recovered.get_mut(&(item.clone(), generation));
        found.ok_or_else(|| ProviderError::NotRecovered { item: item.clone(), generation })
    }

    /// The machine of a recovery, whether the hypervisor knows it or not.
    pub(super) fn made(&self, item: &ItemName, generation: Generation) -> Option<&SimMachine> {
        let r = self.recovered.get(&(item.clone(), generation))?;
        let origin = Origin::Recovered { item: item.clone(), generation };
        r.held.as_ref().or_else(|| self.machines.get(&r.name).filter(|m| m.origin == origin))
    }

    /// The machine of the newest recovery that was started and is not retired: what runs here of the item, if anything does.
    pub(super) fn started(&self, item: &ItemName) -> Option<(Generation, &SimRecovered)> {
        self.all_recovered(item).rev().find(|(_, r)| r.started.is_some() && !r.retired)
    }

    /// Whether the item's machine of that name was taken from the hypervisor: it is retired, or a base.
    pub(super) fn taken(&self, item: &ItemName, name: &str) -> bool {
        let base = self.replicas.get(item).and_then(|r| r.base.as_ref());
        base.is_some_and(|base| base.name == name) || self.all_recovered(item).any(|(_, r)| r.retired && r.name == name)
    }

    /// Takes a machine from the hypervisor, if it is of that origin.
    pub(super) fn take(&mut self, name: &str, origin: &Origin) -> Option<SimMachine> {
        self.machines.get(name).filter(|m| m.origin == *origin)?;
        self.machines.remove(name)
    }

    /// Gives a user's machine back to the hypervisor, off. Where one that was recovered here has taken its place, or another its
    /// name, its disks are left alone.
    pub(super) fn give_back(&mut self, item: &ItemName, name: &str, machine: SimMachine) {
        let machine = SimMachine { power: crate::PowerState::Off, autostart: false, ..machine };
        if self.started(item).is_some() || self.machines.contains_key(name) {
            self.left_alone.push(machine);
        } else {
            self.machines.insert(name.to_owned(), machine);
        }
    }

    /// Gives a machine back that a recovery had made: off, unless it was retired before it became a base.
    pub(super) fn give_back_made(&mut self, item: &ItemName, name: &str, machine: SimMachine, generation: Generation, mut r: SimRecovered) {
        let machine = SimMachine { power: crate::PowerState::Off, autostart: false, ..machine };
        if r.retired || self.machines.contains_key(name) {
            (r.retired, r.held) = (true, Some(machine));
        } else {
            self.machines.insert(name.to_owned(), machine);
        }
        self.recovered.insert((item.clone(), generation), r);
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
