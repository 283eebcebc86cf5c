//! How a source's blocks get to its target.
//!
//! ```text
//!   greet ─▶ newest point, or base ─▶ Delta | Return | Compare | Whole ─▶ blocks ─▶ laid over what the target has ─▶ point
//! ```
//!
//! Invariant: a point is what the target has, overlaid by exactly the blocks that were sent. A wrong choice of blocks is lost
//! data here as it is anywhere.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use recovery::{Consistency, Generation, GroupMoment, ItemName, PointId, SiteName};

use super::{
    BLOCK_BYTES,
    machine::{Address, Blocks, Mark, SimMachine},
    state::{SimPoint, SimReplica, SiteState, State},
};
use crate::{Point, ProviderError, Replicate, group::KeptMoments, retention};

/// What the target says to a source.
pub(super) struct Welcome {
    target: SiteName,
    /// What the first or next point is laid over.
    below: Option<Below>,
}

/// What the target has.
struct Below {
    /// What the source may still count changes from.
    mark: Option<u64>,
    blocks: Blocks,
    /// Of a base: what it has written since its mark.
    written: Option<BTreeSet<Address>>,
}

/// Why a target takes nothing.
pub(super) enum Refusal {
    /// The item's machine was started there.
    RunsThere(ProviderError),
    /// A newer generation has the item.
    Superseded(ProviderError),
    /// It may pass.
    Unreachable(String),
}

/// What the source does afterwards.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// Changes are counted from this point on.
    GoesOn,
    /// Its machine is off: nothing can be marked any more, what was counted stays.
    Final,
}

/// Asks the target whether it takes points of this generation, and what it has.
pub(super) fn greet(state: &State, source: &SiteName, wanted: &Replicate) -> Result<Welcome, Refusal> {
    let unreachable = |why: String| Refusal::Unreachable(why);
    let target = wanted.endpoint.address.strip_prefix("sim:").and_then(|name| name.parse::<SiteName>().ok());
    let target = target.ok_or_else(|| unreachable(format!("{} is no simulated site", wanted.endpoint.address)))?;
    if state.is_cut(source, &target) {
        return Err(unreachable(format!("the line to {target} is cut")));
    }
    let site = state.sites.get(&target).filter(|s| !s.down).ok_or_else(|| unreachable("the target is down".to_owned()))?;
    let (item, given) = (wanted.item.clone(), wanted.generation);
    if let Some((newest, since)) = site.started(&item).and_then(|(newest, r)| Some((newest, r.started?))).filter(|(newest, _)| *newest > given) {
        return Err(Refusal::RunsThere(ProviderError::RunsHere { item, site: target.to_string(), newest, since }));
    }
    let replica = site.replicas.get(&item).ok_or_else(|| unreachable("the target has no replica".to_owned()))?;
    if replica.generation > given || replica.sealed || replica.withdrawn {
        return Err(Refusal::Superseded(ProviderError::Superseded { item, given, newest: replica.generation }));
    }
    Ok(Welcome { target, below: below(replica) })
}

fn below(replica: &SimReplica) -> Option<Below> {
    if let Some(newest) = replica.points.last() {
        return Some(Below { mark: newest.mark, blocks: newest.blocks.clone(), written: None });
    }
    let image = &replica.base.as_ref()?.machine.image;
    let mark = image.newest_mark();
    let written = mark.and_then(|number| image.marks.get(&Mark::Point(number))).cloned();
    Some(Below { mark, blocks: image.blocks.clone(), written })
}

/// What a point is said to be.
#[derive(Clone)]
pub(super) struct Said {
    pub(super) consistency: Consistency,
    /// The moment that it shares.
    pub(super) group: Option<GroupMoment>,
}

/// Sends what differs and makes it a point.
pub(super) fn append(
    state: &mut State,
    source: &SiteName,
    wanted: &Replicate,
    welcome: &Welcome,
    said: Said,
    ending: Ending,
    now: DateTime<Utc>,
) -> Result<PointId, Refusal> {
    let Said { consistency, group } = said;
    let item = &wanted.item;
    let gone = || Refusal::Unreachable("the machine is gone".to_owned());
    let here = state.sites.get(source).ok_or_else(gone)?;
    let machine = here.machines.get(&wanted.machine).ok_or_else(gone)?;
    let compare = here.loops.get(item).and_then(|l| l.status.requested.as_ref()).is_some_and(|requested| requested.compare && requested.made.is_none());
    let kept = here.kept_moments(wanted);
    let addresses = differing(here, machine, wanted, welcome.below.as_ref(), compare);
    let kept_mark = machine.image.newest_mark().filter(|_| ending == Ending::Final);
    let kept_mark = kept_mark.filter(|mark| welcome.below.as_ref().is_some_and(|below| below.written.is_none() && below.mark == Some(*mark)));
    let mut sent: Blocks = addresses.into_iter().map(|a| (a.clone(), machine.image.read(&a))).collect();

    if state.torn.remove(item) {
        let half = sent.len().div_ceil(2);
        let part: Blocks = sent.into_iter().take(half).collect();
        if let Some(replica) = state.sites.get_mut(&welcome.target).and_then(|s| s.replicas.get_mut(item)) {
            replica.part = Some(part);
        }
        return Err(Refusal::Unreachable("the line broke".to_owned()));
    }
    let mark = match ending {
        Ending::GoesOn => {
            state.last_mark += 1;
            Some(state.last_mark)
        }
        Ending::Final => kept_mark,
    };
    let bytes = sent.len() as u64 * BLOCK_BYTES;
    let mut blocks = welcome.below.as_ref().map(|below| below.blocks.clone()).unwrap_or_default();
    blocks.append(&mut sent);
    let new = NewPoint { blocks, mark, generation: wanted.generation, said: Said { consistency, group }, kept, bytes };
    let target = state.sites.get_mut(&welcome.target).ok_or_else(gone)?;
    let id = add(target, item, new, now).ok_or_else(|| Refusal::Unreachable("the target has no replica".to_owned()))?;

    let unanswered = state.unanswered.remove(item);
    let here = state.sites.get_mut(source).ok_or_else(gone)?;
    if let (Ending::GoesOn, Some(number), Some(m)) = (ending, mark, here.machines.get_mut(&wanted.machine)) {
        m.image.mark(number, unanswered);
    }
    if unanswered {
        return Err(Refusal::Unreachable("the answer was lost".to_owned()));
    }
    if let Some(l) = here.loops.get_mut(item) {
        l.status.bytes_sent_total += bytes;
        (l.status.bytes_done, l.status.bytes_total) = (bytes, bytes);
        if consistency == Consistency::App && wanted.policy.app_consistent_interval_s().is_some() {
            l.status.last_app_point = Some(id);
        }
    }
    Ok(id)
}

/// The blocks that have to be sent.
fn differing(here: &SiteState, machine: &SimMachine, wanted: &Replicate, below: Option<&Below>, compare: bool) -> BTreeSet<Address> {
    let Some(below) = below else { return machine.image.blocks.keys().cloned().collect() };
    if compare {
        return machine.image.differing(&below.blocks);
    }
    let counted = |mark| machine.image.marks.get(&mark).cloned();
    let known = match (&below.written, below.mark) {
        (None, Some(number)) => counted(Mark::Point(number)),
        (Some(written), Some(number)) => wanted.returning.and_then(|generation| {
            let kept = here.replicas.get(&wanted.item)?.extent_maps.get(&generation).filter(|kept| kept.since == Some(number))?;
            let since = counted(Mark::Failover(generation))?;
            Some(kept.blocks.iter().chain(written).chain(&since).cloned().collect())
        }),
        (_, None) => None,
    };
    known.unwrap_or_else(|| machine.image.differing(&below.blocks))
}

struct NewPoint {
    blocks: Blocks,
    mark: Option<u64>,
    generation: Generation,
    said: Said,
    kept: Option<KeptMoments>,
    bytes: u64,
}

/// Adds the point and prunes. What a machine or a copy reads from stays: its point and all before it.
fn add(site: &mut SiteState, item: &ItemName, new: NewPoint, now: DateTime<Utc>) -> Option<PointId> {
    let read = site.all_recovered(item).filter(|(_, r)| !r.standalone).map(|(_, r)| r.point);
    let in_use = read.chain(site.copies.get(item).map(|copy| copy.point)).max();
    let replica = site.replicas.get_mut(item)?;
    replica.part = None;
    replica.last_id += 1;
    let id = PointId(replica.last_id);
    let NewPoint { blocks, mark, generation, said: Said { consistency, group }, kept, bytes } = new;
    let point = Point { id, generation, consistency, taken_at: now, recorded_at: now, bytes, pins: vec![], group };
    replica.points.push(SimPoint { point, blocks, mark });
    loop {
        let points: Vec<Point> = replica.points.iter().map(|p| p.point.clone()).collect();
        let Some(gone) = retention::next_to_prune(&points, in_use, kept.as_ref(), &replica.wanted.policy, now) else { return Some(id) };
        replica.points.retain(|p| p.point.id != gone);
    }
}
