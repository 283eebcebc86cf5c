//! Simulated replication: one step at a time, when the world is told to.

use std::{collections::BTreeSet, sync::Arc};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use recovery::{Consistency, Group, ItemName, PointId, SiteName};

use super::{
    Op, SimSite, SimWorld, boot,
    compute::{refused, told},
    site::{Asked, Done},
    state::{SimLoop, State},
    stream::{self, Ending, Refusal, Said},
};
use crate::{Call, Phase, PointRequest, PowerState, ProgressSink, ProviderError, Replicate, Replication, ReplicationStatus, Requested};

/// What one step of an item's replication came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// The target has a new point.
    Point(PointId),
    /// The machine is off.
    Paused,
    /// A newer generation has the item.
    Superseded,
    /// The item's machine runs at the target; here it was ended.
    Quarantined,
    /// It failed and may be tried again.
    Failed(String),
    /// No loop runs for the item.
    NotReplicating,
}

#[async_trait]
impl Replication for SimSite {
    async fn start_replication(&self, call: &Call, wanted: Replicate) -> Result<(), ProviderError> {
        let item = wanted.item.clone();
        self.effect(Asked::of(Op::StartReplication, call, &item, wanted.generation).under(&wanted.policy.clone()), |site, _now| {
            site.protectable(&wanted.machine)?;
            let before = site.loops.get(&item);
            if let Some(l) = before {
                let newest = l.wanted.generation;
                if wanted.generation < newest {
                    return Err(ProviderError::Superseded { item: item.clone(), given: wanted.generation, newest });
                }
                let ended = l.ended() || l.status.phase == Phase::Superseded;
                if l.wanted == wanted && !ended {
                    return Done::repeated(());
                }
            }
            let booted_at = before.and_then(|l| l.booted_at);
            let requested = before.and_then(|l| l.status.requested.clone());
            let mut begun = SimLoop { booted_at, ..SimLoop::new(wanted) };
            begun.status.requested = requested;
            site.loops.insert(item.clone(), begun);
            Done::changed(())
        })
        .await
    }

    async fn stop_replication(&self, call: &Call, item: &ItemName) -> Result<(), ProviderError> {
        self.effect(Asked::on(Op::StopReplication, call, item), |site, _now| {
            let Some(l) = site.loops.get_mut(item) else { return Done::repeated(()) };
            let machine = site.machines.get_mut(&l.wanted.machine);
            let marked = machine.as_ref().is_some_and(|m| m.image.newest_mark().is_some());
            let changed = marked || l.status.phase != Phase::Stopped;
            l.end(Phase::Stopped);
            if let Some(m) = machine {
                m.image.forget_appends();
            }
            Ok(Done { answer: (), changed })
        })
        .await
    }

    async fn final_sync(&self, call: &Call, item: &ItemName, progress: Arc<dyn ProgressSink>) -> Result<PointId, ProviderError> {
        let asked = Asked::on(Op::FinalSync, call, item);
        self.effect_in_world(asked, |state, here, now| final_sync(state, here, item, &*progress, now)).await
    }

    async fn request_point(&self, call: &Call, wanted: PointRequest) -> Result<(), ProviderError> {
        let PointRequest { item, by, compare } = wanted;
        self.effect(Asked::of(Op::RequestPoint, call, &item, by), |site, _now| {
            let Some(l) = site.loops.get_mut(&item).filter(|l| !l.ended()) else {
                return Err(ProviderError::NotReplicated { item: item.clone() });
            };
            if l.status.requested.as_ref().is_some_and(|requested| requested.by == by) {
                return Done::repeated(());
            }
            l.status.requested = Some(Requested { by, compare, made: None });
            Done::changed(())
        })
        .await
    }

    async fn regroup(&self, call: &Call, item: &ItemName, group: Option<Group>) -> Result<(), ProviderError> {
        self.effect(Asked::on(Op::Regroup, call, item), |site, _now| {
            let l = site.loops.get_mut(item).filter(|l| !l.ended()).ok_or_else(|| ProviderError::NotReplicated { item: item.clone() })?;
            let changed = l.wanted.group != group;
            l.wanted.group = group;
            Ok(Done { answer: (), changed })
        })
        .await
    }

    async fn replication_status(&self, item: &ItemName) -> Result<Option<ReplicationStatus>, ProviderError> {
        self.look(Op::ReplicationStatus, Some(item), |site| Ok(site.status(item))).await
    }
}

impl SimLoop {
    fn new(wanted: Replicate) -> Self {
        let status = ReplicationStatus {
            generation: wanted.generation,
            phase: Phase::Seeding,
            bytes_done: 0,
            bytes_total: 0,
            last_point: None,
            last_point_taken_at: None,
            last_app_point: None,
            app_error: None,
            last_error: None,
            bytes_sent_total: 0,
            requested: None,
            group: None,
        };
        Self { wanted, status, final_point: None, app_tried_at: None, booted_at: None }
    }

    /// What a step came to.
    pub(super) fn record(&mut self, step: &Step, now: DateTime<Utc>) {
        let status = &mut self.status;
        match step {
            Step::Point(id) => {
                status.phase = Phase::Replicating;
                status.last_error = None;
                status.last_point = Some(*id);
                status.last_point_taken_at = Some(now);
                if let Some(requested) = status.requested.as_mut().filter(|requested| requested.made.is_none()) {
                    requested.made = Some(*id);
                }
            }
            Step::Paused if status.phase != Phase::Superseded => status.phase = Phase::Paused,
            Step::Superseded => status.phase = Phase::Superseded,
            Step::Failed(error) => {
                if status.phase != Phase::Superseded {
                    status.phase = Phase::Broken;
                }
                status.last_error = Some(error.clone());
            }
            Step::Paused | Step::Quarantined | Step::NotReplicating => {}
        }
    }

    /// Whether the next point is to be app-consistent.
    fn app_due(&self, now: DateTime<Utc>) -> bool {
        let every_s = self.wanted.policy.app_consistent_interval_s();
        every_s.is_some_and(|every_s| self.app_tried_at.is_none_or(|tried| (now - tried).num_seconds() >= i64::from(every_s)))
    }
}

impl SimWorld {
    /// Lets every loop of the world take one step: groups whose next moment is due take that, all others a step of their own.
    pub fn replicate_all(&self) -> Vec<(ItemName, Step)> {
        let together: Vec<(ItemName, Step)> = self.due_groups().iter().flat_map(|group| self.take_moment(group).steps).collect();
        let items: BTreeSet<ItemName> = self.lock().sites.values().flat_map(|s| s.loops.keys().cloned()).collect();
        let alone = items.into_iter().filter(|item| !together.iter().any(|(done, _)| done == item));
        let alone: Vec<(ItemName, Step)> = alone.map(|item| (item.clone(), self.replicate(&item))).collect();
        together.into_iter().chain(alone).collect()
    }

    /// Lets each loop of an item take one step: a point, or the reason why there is none. Says what the newest loop's came to.
    pub fn replicate(&self, item: &ItemName) -> Step {
        let now = self.now();
        let mut state = self.lock();
        let of_item = |(name, s): (&SiteName, &super::state::SiteState)| {
            s.loops.get(item).filter(|l| !l.ended()).map(|l| (l.wanted.generation, name.clone()))
        };
        let mut sources: Vec<_> = state.sites.iter().filter_map(of_item).collect();
        sources.sort();
        let mut last = Step::NotReplicating;
        for (_, source) in sources {
            last = step(&mut state, &source, item, now);
            if let Some(l) = state.sites.get_mut(&source).and_then(|s| s.loops.get_mut(item)) {
                l.record(&last, now);
            }
        }
        state.note_networks(now);
        last
    }
}

fn step(state: &mut State, source: &SiteName, item: &ItemName, now: DateTime<Utc>) -> Step {
    let Some(site) = state.sites.get_mut(source).filter(|s| !s.down) else {
        return Step::Failed("the source is down".to_owned());
    };
    let Some(l) = site.loops.get_mut(item) else { return Step::NotReplicating };
    let (wanted, booted) = (l.wanted.clone(), l.booted_at.is_some());
    let Some(power) = site.machines.get(&wanted.machine).map(|m| m.power) else { return Step::Paused };
    if booted {
        return boot::decide(state, source, item, now);
    }
    if power == PowerState::Off {
        return Step::Paused;
    }
    let refuses = site.guest(&wanted.machine).refuses_freeze;
    let welcome = match stream::greet(state, source, &wanted) {
        Ok(welcome) => welcome,
        Err(refusal) => return refused_by_target(state, source, item, refusal),
    };
    let mut consistency = Consistency::Crash;
    if let Some(l) = state.sites.get_mut(source).and_then(|s| s.loops.get_mut(item)).filter(|l| l.app_due(now)) {
        l.app_tried_at = Some(now);
        consistency = if refuses { Consistency::Crash } else { Consistency::App };
        l.status.app_error = refuses.then(|| "the guest refused to freeze its file systems".to_owned());
    }
    match stream::append(state, source, &wanted, &welcome, Said { consistency, group: None }, Ending::GoesOn, now) {
        Ok(id) => Step::Point(id),
        Err(refusal) => refused_by_target(state, source, item, refusal),
    }
}

pub(super) fn refused_by_target(state: &mut State, source: &SiteName, item: &ItemName, refusal: Refusal) -> Step {
    match refusal {
        Refusal::RunsThere(error) => boot::quarantine(state, source, item, &error),
        Refusal::Superseded(_) => Step::Superseded,
        Refusal::Unreachable(why) => Step::Failed(why),
    }
}

fn final_sync(
    state: &mut State,
    here: &SiteName,
    item: &ItemName,
    progress: &dyn ProgressSink,
    now: DateTime<Utc>,
) -> Result<Done<PointId>, ProviderError> {
    let site = state.sites.entry(here.clone()).or_default();
    let not_replicated = || ProviderError::NotReplicated { item: item.clone() };
    let l = site.loops.get(item).ok_or_else(not_replicated)?;
    if let Some(point) = l.final_point {
        return Done::repeated(point);
    }
    if l.ended() {
        return Err(not_replicated());
    }
    let wanted = l.wanted.clone();
    let machine = site.machine(&wanted.machine)?;
    if machine.power != PowerState::Off {
        return Err(ProviderError::StillRunning { machine: wanted.machine, waited_ms: 0 });
    }
    let blocks = machine.image.blocks.len();
    let refusal = |refusal| match refusal {
        Refusal::RunsThere(error) | Refusal::Superseded(error) => error,
        Refusal::Unreachable(detail) => ProviderError::Unreachable { site: wanted.endpoint.address.clone(), detail },
    };
    let welcome = stream::greet(state, here, &wanted).map_err(refusal)?;
    told(progress, "final_sync", item, blocks)?;
    let said = Said { consistency: Consistency::App, group: None };
    let id = stream::append(state, here, &wanted, &welcome, said, Ending::Final, now).map_err(refusal)?;
    let site = state.sites.entry(here.clone()).or_default();
    let l = site.loops.get_mut(item).ok_or_else(|| refused("final_sync", item.as_str(), "its loop is gone".to_owned()))?;
    l.record(&Step::Point(id), now);
    l.end(Phase::Stopped);
    l.final_point = Some(id);
    Done::changed(id)
}
