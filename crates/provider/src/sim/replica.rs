//! Simulated replica stores.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use recovery::{Generation, ItemName, PointId};
use sha2::{Digest, Sha256};

use super::{
    BLOCK_BYTES, Op, SimSite,
    site::{Asked, Done},
    state::{Address, SimReplica, SiteState},
};
use crate::{Applied, Call, Endpoint, ExtentMap, Machine, Pin, PrepareReplica, ProviderError, Replica, ReplicaStore};

#[async_trait]
impl ReplicaStore for SimSite {
    async fn prepare(&self, call: &Call, wanted: PrepareReplica) -> Result<Endpoint, ProviderError> {
        let item = wanted.item.clone();
        let endpoint = Endpoint { address: format!("sim:{}", self.name), tls_name: self.name.to_string() };
        self.effect(Asked::of(Op::Prepare, call, &item, wanted.generation), |site, _now| {
            let changed = prepare(site, wanted)?;
            Ok(Done { answer: endpoint, changed })
        })
        .await
    }

    async fn seal(&self, call: &Call, item: &ItemName, generation: Generation) -> Result<Replica, ProviderError> {
        self.effect(Asked::of(Op::Seal, call, item, generation), |site, _now| {
            let r = site.replica(item)?;
            if generation < r.generation {
                return Err(ProviderError::Superseded { item: item.clone(), given: generation, newest: r.generation });
            }
            let changed = !r.sealed || r.generation < generation;
            (r.generation, r.sealed) = (generation, true);
            r.part = None;
            Ok(Done { answer: r.describe(), changed })
        })
        .await
    }

    async fn replica(&self, item: &ItemName) -> Result<Replica, ProviderError> {
        self.look(Op::Replica, Some(item), |site| Ok(site.replica(item)?.describe())).await
    }

    async fn pin(&self, call: &Call, item: &ItemName, point: PointId, pin: Pin) -> Result<(), ProviderError> {
        self.effect(Asked::on(Op::Pin, call, item).at(point), |site, _now| {
            let r = site.replica(item)?;
            r.offered(point)?;
            let pins = r.points.iter_mut().filter(|p| p.point.id == point).map(|p| &mut p.point.pins);
            let mut changed = false;
            for pins in pins {
                if let Err(at) = pins.binary_search(&pin) {
                    pins.insert(at, pin.clone());
                    changed = true;
                }
            }
            Ok(Done { answer: (), changed })
        })
        .await
    }

    async fn unpin(&self, call: &Call, item: &ItemName, point: PointId, pin: Pin) -> Result<(), ProviderError> {
        self.effect(Asked::on(Op::Unpin, call, item).at(point), |site, _now| {
            let mut changed = false;
            for p in site.replica(item)?.points.iter_mut().filter(|p| p.point.id == point) {
                let before = p.point.pins.len();
                p.point.pins.retain(|have| *have != pin);
                changed |= p.point.pins.len() < before;
            }
            Ok(Done { answer: (), changed })
        })
        .await
    }

    async fn keep_extent_map(&self, call: &Call, item: &ItemName, generation: Generation) -> Result<ExtentMap, ProviderError> {
        self.effect(Asked::of(Op::KeepExtentMap, call, item, generation), |site, _now| {
            if let Some(kept) = site.replica(item)?.extent_maps.get(&generation) {
                return Done::repeated(kept.clone());
            }
            let map = extent_map(site, item, generation)?;
            site.replica(item)?.extent_maps.insert(generation, map.clone());
            Done::changed(map)
        })
        .await
    }

    async fn withdraw_points(&self, call: &Call, item: &ItemName) -> Result<(), ProviderError> {
        self.effect(Asked::on(Op::WithdrawPoints, call, item), |site, _now| {
            let r = site.replica(item)?;
            let changed = !r.withdrawn;
            (r.withdrawn, r.sealed) = (true, true);
            Ok(Done { answer: (), changed })
        })
        .await
    }

    async fn remove_points(&self, call: &Call, item: &ItemName) -> Result<(), ProviderError> {
        self.effect(Asked::on(Op::RemovePoints, call, item), |site, _now| {
            let r = site.replica(item)?;
            if !r.withdrawn {
                return Err(ProviderError::Platform {
                    operation: "remove_points".to_owned(),
                    target: item.to_string(),
                    detail: "the points are not withdrawn".to_owned(),
                    applied: Applied::No,
                });
            }
            unused(site, item)?;
            let r = site.replica(item)?;
            let changed = !r.removed;
            r.removed = true;
            r.points.clear();
            Ok(Done { answer: (), changed })
        })
        .await
    }

    async fn drop_replica(&self, call: &Call, item: &ItemName) -> Result<(), ProviderError> {
        self.effect(Asked::on(Op::DropReplica, call, item), |site, _now| {
            unused(site, item)?;
            let changed = site.replicas.remove(item).is_some();
            Ok(Done { answer: (), changed })
        })
        .await
    }
}

fn prepare(site: &mut SiteState, wanted: PrepareReplica) -> Result<bool, ProviderError> {
    let Some(r) = site.replicas.get_mut(&wanted.item) else {
        let replica = SimReplica {
            generation: wanted.generation,
            sealed: false,
            withdrawn: false,
            removed: false,
            points: vec![],
            last_id: 0,
            part: None,
            extent_maps: BTreeMap::new(),
            wanted,
        };
        site.replicas.insert(replica.wanted.item.clone(), replica);
        return Ok(true);
    };
    let item = &wanted.item;
    if r.withdrawn {
        return Err(ProviderError::PointsWithdrawn { item: item.clone() });
    }
    if wanted.generation < r.generation {
        return Err(ProviderError::Superseded { item: item.clone(), given: wanted.generation, newest: r.generation });
    }
    let shape = |m: &Machine| m.disks.iter().map(|d| (d.target.clone(), d.capacity_bytes)).collect::<Vec<_>>();
    if shape(&r.wanted.machine) != shape(&wanted.machine) {
        let reason = "its disks are not those of the machine".to_owned();
        return Err(ProviderError::ReplicaMismatch { item: item.clone(), reason });
    }
    let changed = r.sealed || r.wanted != wanted;
    (r.generation, r.sealed, r.wanted) = (wanted.generation, false, wanted);
    Ok(changed)
}

/// Refuses if a recovered machine still reads from points.
fn unused(site: &SiteState, item: &ItemName) -> Result<(), ProviderError> {
    match site.recovered.get(item) {
        Some(r) if !r.standalone => {
            Err(ProviderError::PointsInUse { item: item.clone(), user: format!("machine {} of generation {}", r.machine, r.generation) })
        }
        Some(_) | None => Ok(()),
    }
}

/// Blocks in which newer points differ from the recovered one, and those written since.
fn extent_map(site: &mut SiteState, item: &ItemName, generation: Generation) -> Result<ExtentMap, ProviderError> {
    let r = site.recovered(item, generation)?;
    if r.started.is_none() {
        return Err(ProviderError::NotRecovered { item: item.clone(), generation });
    }
    let mut changed: BTreeSet<Address> = r.written.clone();
    let chosen = r.point;
    let points = &site.replica(item)?.points;
    for pair in points.windows(2).filter(|pair| pair[1].point.id > chosen) {
        let addresses = pair[0].blocks.keys().chain(pair[1].blocks.keys());
        changed.extend(addresses.filter(|a| pair[0].blocks.get(*a) != pair[1].blocks.get(*a)).cloned());
    }
    let mut hasher = Sha256::new();
    for (target, block) in &changed {
        hasher.update(format!("{target} {block}\n"));
    }
    let blocks = changed.len() as u64;
    Ok(ExtentMap { hash: hex::encode(hasher.finalize()), blocks, bytes: blocks * BLOCK_BYTES })
}
