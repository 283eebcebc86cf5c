//! Everything at a simulated site that exists because of us.

use recovery::ItemName;

use super::{
    BLOCK_BYTES,
    machine::{Mark, Origin},
    state::SiteState,
};
use crate::{Inventory, ObjectKind, OwnedObject};

pub(super) fn of(site: &SiteState) -> Inventory {
    let mut objects = vec![];
    let mut add = |kind, item: &ItemName, name: String, blocks: usize| {
        objects.push(OwnedObject { kind, item: Some(item.clone()), name, bytes: blocks as u64 * BLOCK_BYTES, of_test: false });
    };
    for (item, replica) in &site.replicas {
        add(ObjectKind::Record, item, format!("{item}/journal"), 0);
        if let Some(part) = &replica.part {
            add(ObjectKind::Temporary, item, format!("{item}/part"), part.len());
        }
        for p in &replica.points {
            add(ObjectKind::PointFile, item, format!("{item}/p{}", p.point.id), p.blocks.len());
        }
        for generation in replica.extent_maps.keys() {
            add(ObjectKind::Record, item, format!("{item}/extents.{generation}"), 0);
        }
        if let Some(base) = replica.base.as_ref().filter(|base| base.machine.origin != Origin::Original) {
            add(ObjectKind::MachineDisk, item, format!("{item}/base"), base.machine.image.blocks.len());
        }
    }
    for ((item, generation), r) in &site.recovered {
        let blocks = site.made(item, *generation).map_or(0, |m| m.image.blocks.len());
        add(ObjectKind::MachineDisk, item, format!("{item}/run.{}", r.token), blocks);
        if r.held.is_none() {
            add(ObjectKind::Machine, item, r.name.clone(), 0);
        }
    }
    for (item, l) in &site.loops {
        let marks = site.machines.get(&l.wanted.machine).into_iter().flat_map(|m| m.image.marks.keys());
        for mark in marks.filter(|mark| matches!(mark, Mark::Point(_))) {
            add(ObjectKind::Checkpoint, item, format!("{item}/{mark:?}"), 0);
        }
    }
    for (item, copy) in &site.copies {
        let mut add = |kind, name: String| objects.push(OwnedObject { kind, item: Some(item.clone()), name, bytes: 0, of_test: true });
        add(ObjectKind::MachineDisk, format!("{item}/test/run.{}", copy.token));
        add(ObjectKind::Record, format!("{item}/test/record"));
        add(ObjectKind::Network, copy.network.clone());
        if copy.started.is_some() {
            add(ObjectKind::Machine, copy.name.clone());
        }
    }
    objects.sort();
    Inventory { objects }
}
