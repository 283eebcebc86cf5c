//! Simulated replica stores.

use async_trait::async_trait;
use recovery::{Generation, ItemName, PointId};

use super::{
    Op, SimSite, base,
    compute::refused,
    extents,
    machine::{Origin, shape},
    site::{Asked, Done},
    state::{SimBase, SimRecovered, SimReplica, SiteState},
};
use crate::{Call, Endpoint, ExtentMap, Pin, PrepareReplica, ProviderError, Replica, ReplicaStore};

#[async_trait]
impl ReplicaStore for SimSite {
    async fn prepare(&self, call: &Call, wanted: PrepareReplica) -> Result<Endpoint, ProviderError> {
        let item = wanted.item.clone();
        let endpoint = Endpoint { address: format!("sim:{}", self.name), tls_name: self.name.to_string() };
        self.effect(Asked::of(Op::Prepare, call, &item, wanted.generation).under(&wanted.policy.clone()), |site, _now| {
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
        self.effect(Asked::on(Op::Pin, call, item).at(point).pinned(&pin), |site, _now| {
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
        self.effect(Asked::on(Op::Unpin, call, item).at(point).pinned(&pin), |site, _now| {
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
                return Done::repeated(kept.map.clone());
            }
            let kept = extents::differing(site, item, generation)?;
            let map = kept.map.clone();
            site.replica(item)?.extent_maps.insert(generation, kept);
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
                return Err(refused("remove_points", item.as_str(), "the points are not withdrawn".to_owned()));
            }
            unused(site, item)?;
            let r = site.replica(item)?;
            let changed = !r.removed;
            r.removed = true;
            r.points.clear();
            r.base.take_if(|base| base.machine.origin != Origin::Original);
            site.fences.remove(item);
            let displaced: Vec<_> = site.recovered.iter_mut().filter_map(|((of, _), r)| r.displaced.take_if(|_| of == item)).collect();
            site.left_alone.extend(displaced);
            Ok(Done { answer: (), changed })
        })
        .await
    }

    async fn drop_replica(&self, call: &Call, item: &ItemName) -> Result<(), ProviderError> {
        self.effect(Asked::on(Op::DropReplica, call, item), |site, _now| {
            unused(site, item)?;
            let Some(gone) = site.replicas.remove(item) else { return Done::repeated(()) };
            let of_item = |(of, _): &(ItemName, Generation), r: &SimRecovered| of == item && r.retired;
            let retired: Vec<_> = site.recovered.extract_if(.., |key, r| of_item(key, r)).map(|(_, r)| r).collect();
            for (name, displaced) in retired.into_iter().filter_map(|r| Some((r.name, r.displaced?))) {
                site.give_back(item, &name, displaced);
            }
            match gone.base {
                Some(SimBase { name, machine, made: None }) => site.give_back(item, &name, machine),
                Some(SimBase { name, machine, made: Some((generation, made)) }) if gone.points.is_empty() => {
                    site.give_back_made(item, &name, machine, generation, made);
                }
                Some(_) | None => {}
            }
            Done::changed(())
        })
        .await
    }
}

fn prepare(site: &mut SiteState, wanted: PrepareReplica) -> Result<bool, ProviderError> {
    let item = wanted.item.clone();
    let mut last_id = 0;
    if let Some(r) = site.replicas.get_mut(&item) {
        let anew = r.withdrawn && r.removed && wanted.generation > r.generation;
        if r.withdrawn && !anew {
            return Err(ProviderError::PointsWithdrawn { item });
        }
        if wanted.generation < r.generation {
            return Err(ProviderError::Superseded { item, given: wanted.generation, newest: r.generation });
        }
        if !anew {
            return open(site, wanted);
        }
        last_id = r.last_id;
    }
    let base = base::adopt(site, &wanted)?;
    if let Some(left) = site.replicas.remove(&item).and_then(|gone| gone.base) {
        site.left_alone.push(left.machine);
    }
    let replica = SimReplica {
        generation: wanted.generation,
        sealed: false,
        withdrawn: false,
        removed: false,
        points: vec![],
        last_id,
        part: None,
        extent_maps: Default::default(),
        machine: base::machine(&wanted.machine, base.as_ref()),
        base,
        wanted,
    };
    site.replicas.insert(item, replica);
    Ok(true)
}

/// Opens a replica that has points to offer, or may get some.
fn open(site: &mut SiteState, wanted: PrepareReplica) -> Result<bool, ProviderError> {
    let r = site.replica(&wanted.item)?;
    if shape(&r.machine.disks) != shape(&wanted.machine.disks) {
        let reason = "its disks are not those of the machine".to_owned();
        return Err(ProviderError::ReplicaMismatch { item: wanted.item, reason });
    }
    if r.points.is_empty() && r.base.is_none() {
        let base = base::adopt(site, &wanted)?;
        site.replica(&wanted.item)?.base = base;
    }
    let r = site.replica(&wanted.item)?;
    let machine = base::machine(&wanted.machine, r.base.as_ref());
    let changed = r.sealed || r.wanted != wanted || r.machine != machine;
    (r.generation, r.sealed, r.machine, r.wanted) = (wanted.generation, false, machine, wanted);
    Ok(changed)
}

/// Refuses if a machine still reads from points.
fn unused(site: &SiteState, item: &ItemName) -> Result<(), ProviderError> {
    let in_use = |user: String| Err(ProviderError::PointsInUse { item: item.clone(), user });
    if let Some((generation, r)) = site.all_recovered(item).find(|(_, r)| !r.standalone) {
        return in_use(format!("machine {} of generation {generation}", r.name));
    }
    match site.copies.get(item) {
        Some(copy) => in_use(format!("the copy {} of generation {}", copy.name, copy.generation)),
        None => Ok(()),
    }
}
