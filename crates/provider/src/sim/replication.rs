//! Simulated replication: one step at a time, when the world is told to.

use std::{collections::BTreeSet, sync::Arc};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use recovery::{Consistency, Generation, ItemName, PointId, SiteName};

use super::{
    BLOCK_BYTES, Op, SimSite, SimWorld,
    compute::protectable,
    site::{Asked, Done},
    state::{Address, Blocks, SimLoop, SimPoint, SimReplica, State},
};
use crate::{Call, Phase, Point, PowerState, ProgressSink, ProviderError, Replicate, Replication, ReplicationStatus, retention};

/// What one step of an item's replication came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// The target has a new point.
    Point(PointId),
    /// The machine is off.
    Paused,
    /// A newer generation has the item.
    Superseded,
    /// It failed and may be tried again.
    Failed(String),
    /// No loop runs for the item.
    NotReplicating,
}

#[async_trait]
impl Replication for SimSite {
    async fn start_replication(&self, call: &Call, wanted: Replicate) -> Result<(), ProviderError> {
        let item = wanted.item.clone();
        self.effect(Asked::of(Op::StartReplication, call, &item, wanted.generation), |site, _now| {
            protectable(site.machine(&wanted.machine)?.describe(&wanted.machine))?;
            if let Some(l) = site.loops.get_mut(&item) {
                let newest = l.wanted.generation;
                if wanted.generation < newest {
                    return Err(ProviderError::Superseded { item: item.clone(), given: wanted.generation, newest });
                }
                let ended = matches!(l.status.phase, Phase::Stopped | Phase::Superseded | Phase::Quarantined);
                if l.wanted == wanted && !ended {
                    return Done::repeated(());
                }
            }
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
            };
            site.loops.insert(item.clone(), SimLoop { wanted, status });
            Done::changed(())
        })
        .await
    }

    async fn stop_replication(&self, call: &Call, item: &ItemName) -> Result<(), ProviderError> {
        self.effect(Asked::on(Op::StopReplication, call, item), |site, _now| {
            let Some(l) = site.loops.get_mut(item) else { return Done::repeated(()) };
            let changed = l.status.phase != Phase::Stopped;
            l.status.phase = Phase::Stopped;
            if let Some(m) = site.machines.get_mut(&l.wanted.machine) {
                m.mark = None;
                m.dirty.clear();
            }
            Ok(Done { answer: (), changed })
        })
        .await
    }

    async fn final_sync(&self, _call: &Call, _item: &ItemName, _progress: Arc<dyn ProgressSink>) -> Result<PointId, ProviderError> {
        Err(super::not_built("final_sync"))
    }

    async fn replication_status(&self, item: &ItemName) -> Result<Option<ReplicationStatus>, ProviderError> {
        self.look(Op::ReplicationStatus, Some(item), |site| Ok(site.loops.get(item).map(|l| l.status.clone()))).await
    }
}

/// What the source sends for one point.
struct Increment {
    changes: Blocks,
    /// Over what the target has as its newest point; `false` replaces everything.
    delta: bool,
    mark: u64,
    generation: Generation,
}

impl SimWorld {
    /// Lets every loop of the world take one step.
    pub fn replicate_all(&self) -> Vec<(ItemName, Step)> {
        let items: BTreeSet<ItemName> = self.lock().sites.values().flat_map(|s| s.loops.keys().cloned()).collect();
        items.into_iter().map(|item| (item.clone(), self.replicate(&item))).collect()
    }

    /// Lets the loop of an item take one step: a point, or the reason why there is none.
    pub fn replicate(&self, item: &ItemName) -> Step {
        let now = self.now();
        let mut state = self.lock();
        let running = |phase| !matches!(phase, Phase::Stopped | Phase::Superseded | Phase::Quarantined);
        let source = state.sites.iter().find(|(_, s)| s.loops.get(item).is_some_and(|l| running(l.status.phase)));
        let Some(source) = source.map(|(name, _)| name.clone()) else { return Step::NotReplicating };
        let step = step(&mut state, &source, item, now);
        if let Some(l) = state.sites.get_mut(&source).and_then(|s| s.loops.get_mut(item)) {
            record(&mut l.status, &step, now);
        }
        step
    }
}

fn record(status: &mut ReplicationStatus, step: &Step, now: DateTime<Utc>) {
    match step {
        Step::Point(id) => {
            status.phase = Phase::Replicating;
            status.last_error = None;
            status.last_point = Some(*id);
            status.last_point_taken_at = Some(now);
        }
        Step::Paused => status.phase = Phase::Paused,
        Step::Superseded => status.phase = Phase::Superseded,
        Step::Failed(error) => {
            status.phase = Phase::Broken;
            status.last_error = Some(error.clone());
        }
        Step::NotReplicating => {}
    }
}

fn step(state: &mut State, source: &SiteName, item: &ItemName, now: DateTime<Utc>) -> Step {
    let Some(site) = state.sites.get_mut(source).filter(|s| !s.down) else {
        return Step::Failed("the source is down".to_owned());
    };
    let Some(wanted) = site.loops.get(item).map(|l| l.wanted.clone()) else { return Step::NotReplicating };
    if site.machines.get(&wanted.machine).is_none_or(|m| m.power == PowerState::Off) {
        return Step::Paused;
    }
    let Some(target) = wanted.endpoint.address.strip_prefix("sim:").and_then(|name| name.parse::<SiteName>().ok()) else {
        return Step::Failed(format!("{} is no simulated site", wanted.endpoint.address));
    };
    let newest = match newest_mark(state, &target, &wanted) {
        Ok(newest) => newest,
        Err(step) => return step,
    };
    let Some(increment) = collect(state, source, &wanted, newest) else { return Step::Paused };

    let torn = state.torn.remove(item);
    let Some(replica) = state.sites.get_mut(&target).and_then(|s| s.replicas.get_mut(item)) else {
        return Step::Failed("the target has no replica".to_owned());
    };
    if torn {
        let half = increment.changes.len().div_ceil(2);
        replica.part = Some(increment.changes.into_iter().take(half).collect());
        return Step::Failed("the line broke".to_owned());
    }
    let sent_bytes = increment.changes.len() as u64 * BLOCK_BYTES;
    let mark = increment.mark;
    let id = append(replica, increment, now);
    if let Some(site) = state.sites.get_mut(source) {
        if let Some(m) = site.machines.get_mut(&wanted.machine) {
            m.mark = Some(mark);
            m.dirty.clear();
        }
        if let Some(l) = site.loops.get_mut(item) {
            l.status.bytes_sent_total += sent_bytes;
            (l.status.bytes_done, l.status.bytes_total) = (sent_bytes, sent_bytes);
        }
    }
    Step::Point(id)
}

/// What the target says at the start: the mark of its newest point.
fn newest_mark(state: &State, target: &SiteName, wanted: &Replicate) -> Result<Option<u64>, Step> {
    let site = state.sites.get(target).filter(|s| !s.down);
    let site = site.ok_or_else(|| Step::Failed("the target is down".to_owned()))?;
    let replica = site.replicas.get(&wanted.item).ok_or_else(|| Step::Failed("the target has no replica".to_owned()))?;
    if replica.generation > wanted.generation || replica.sealed {
        return Err(Step::Superseded);
    }
    Ok(replica.points.last().map(|p| p.mark))
}

fn collect(state: &State, source: &SiteName, wanted: &Replicate, newest: Option<u64>) -> Option<Increment> {
    let machine = state.sites.get(source)?.machines.get(&wanted.machine)?;
    let delta = machine.mark.is_some() && machine.mark == newest;
    let dirty = |address: &&Address| !delta || machine.dirty.contains(*address);
    let changes = machine.blocks.keys().filter(dirty).map(|a| (a.clone(), machine.blocks[a])).collect();
    Some(Increment { changes, delta, mark: newest.unwrap_or(0) + 1, generation: wanted.generation })
}

fn append(replica: &mut SimReplica, increment: Increment, now: DateTime<Utc>) -> PointId {
    let Increment { changes, delta, mark, generation } = increment;
    let bytes = changes.len() as u64 * BLOCK_BYTES;
    let mut blocks = match replica.points.last() {
        Some(newest) if delta => newest.blocks.clone(),
        Some(_) | None => Blocks::new(),
    };
    blocks.extend(changes);
    replica.part = None;
    replica.last_id += 1;
    let id = PointId(replica.last_id);
    let point = Point { id, generation, consistency: Consistency::Crash, taken_at: now, recorded_at: now, bytes, pins: vec![] };
    replica.points.push(SimPoint { point, blocks, mark });
    loop {
        let points: Vec<Point> = replica.points.iter().map(|p| p.point.clone()).collect();
        let Some(gone) = retention::next_to_prune(&points, &replica.wanted.policy, now) else { return id };
        replica.points.retain(|p| p.point.id != gone);
    }
}
