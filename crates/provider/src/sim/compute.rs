//! Simulated machines.

use std::{collections::BTreeSet, sync::Arc};

use async_trait::async_trait;
use recovery::{Generation, ItemName};

use super::{
    BLOCK_BYTES, Op, SimSite,
    site::{Asked, Done},
    state::{SimRecovered, SiteState},
};
use crate::{
    Applied, Call, Compute, Inventory, Machine, ObjectKind, OwnedObject, PowerState, Progress, ProgressSink, ProviderError,
    RecoverMachine, Recovered, RecoveredState, Started, Written,
};

#[async_trait]
impl Compute for SimSite {
    async fn inspect(&self, machine: &str) -> Result<Machine, ProviderError> {
        self.look(Op::Inspect, None, |site| protectable(site.machine(machine)?.describe(machine))).await
    }

    async fn recover(&self, call: &Call, wanted: RecoverMachine) -> Result<Recovered, ProviderError> {
        let item = wanted.item.clone();
        let asked = Asked::of(Op::Recover, call, &item, wanted.generation).at(wanted.point);
        self.effect(asked, |site, _now| recover(site, call, wanted)).await
    }

    async fn start_machine(&self, call: &Call, item: &ItemName, generation: Generation) -> Result<Started, ProviderError> {
        let asked = Asked::of(Op::StartMachine, call, item, generation);
        self.effect(asked, |site, now| {
            let r = site.recovered(item, generation)?;
            let (since, changed) = (r.started.unwrap_or(now), r.started.is_none());
            if changed {
                r.started = Some(now);
                r.power = PowerState::Running;
            }
            let answer = Started { token: r.token, point: r.point, machine: r.machine.clone(), since };
            Ok(Done { answer, changed })
        })
        .await
    }

    async fn discard(&self, call: &Call, item: &ItemName, generation: Generation) -> Result<(), ProviderError> {
        let asked = Asked::of(Op::Discard, call, item, generation);
        self.effect(asked, |site, _now| {
            let ours = site.recovered.get(item).is_some_and(|r| r.generation == generation);
            if ours {
                site.recovered.remove(item);
            }
            Ok(Done { answer: (), changed: ours })
        })
        .await
    }

    async fn written(&self, _item: &ItemName, _generation: Generation) -> Result<Written, ProviderError> {
        Err(super::not_built("written"))
    }

    async fn retire(&self, _call: &Call, _item: &ItemName, _generation: Generation) -> Result<(), ProviderError> {
        Err(super::not_built("retire"))
    }

    async fn observe_machine(&self, item: &ItemName, generation: Generation) -> Result<RecoveredState, ProviderError> {
        self.look(Op::ObserveMachine, Some(item), |site| {
            let Some(r) = site.recovered.get(item).filter(|r| r.generation == generation) else {
                return Ok(RecoveredState::Absent);
            };
            let (token, point) = (r.token, r.point);
            Ok(match r.started {
                None => RecoveredState::Prepared { token, point },
                Some(since) => RecoveredState::Started { token, point, since, power: r.power, standalone: r.standalone },
            })
        })
        .await
    }

    async fn flatten(
        &self,
        call: &Call,
        item: &ItemName,
        generation: Generation,
        progress: Arc<dyn ProgressSink>,
    ) -> Result<(), ProviderError> {
        let asked = Asked::of(Op::Flatten, call, item, generation);
        self.effect(asked, |site, _now| {
            let r = site.recovered(item, generation)?;
            if r.started.is_none() {
                return Err(ProviderError::NotRecovered { item: item.clone(), generation });
            }
            if r.standalone {
                return Done::repeated(());
            }
            let bytes_total = r.blocks.len() as u64 * BLOCK_BYTES;
            for bytes_done in [0, bytes_total / 2, bytes_total] {
                if progress.report(Progress { bytes_done, bytes_total }).is_break() {
                    return Err(ProviderError::Stopped { operation: "flatten".to_owned(), target: item.to_string() });
                }
            }
            r.standalone = true;
            Done::changed(())
        })
        .await
    }

    async fn inventory(&self) -> Result<Inventory, ProviderError> {
        self.look(Op::Inventory, None, |site| Ok(inventory(site))).await
    }
}

/// Refuses what can't be protected.
pub(super) fn protectable(machine: Machine) -> Result<Machine, ProviderError> {
    if let Some(d) = machine.disks.iter().find(|d| d.format != "qcow2") {
        return Err(ProviderError::DiskNotQcow2 { machine: machine.name, disk: d.target.clone(), format: d.format.clone() });
    }
    if machine.disks.is_empty() {
        return Err(ProviderError::NotProtectable { machine: machine.name, reason: "it has no disk".to_owned() });
    }
    Ok(machine)
}

fn recover(site: &mut SiteState, call: &Call, wanted: RecoverMachine) -> Result<Done<Recovered>, ProviderError> {
    let RecoverMachine { item, generation, point, network } = wanted;
    if let Some(r) = site.recovered.get(&item) {
        let answer = Recovered { token: r.token, point: r.point, machine: r.machine.clone() };
        if r.generation > generation {
            return Err(ProviderError::Superseded { item, given: generation, newest: r.generation });
        }
        if r.generation == generation && r.point == point && r.network == network {
            return Done::repeated(answer);
        }
        if r.started.is_some() && r.generation < generation {
            return Err(ProviderError::OlderMachine { item, older: r.generation });
        }
        if r.started.is_some() {
            return Err(ProviderError::Platform {
                operation: "recover".to_owned(),
                target: item.to_string(),
                detail: format!("generation {generation} already runs, from point {}", r.point),
                applied: Applied::No,
            });
        }
    }
    let replica = site.replica(&item)?;
    let blocks = replica.offered(point)?.blocks.clone();
    let machine = replica.wanted.machine.name.clone();
    let answer = Recovered { token: call.token, point, machine: machine.clone() };
    let recovered = SimRecovered {
        token: call.token,
        generation,
        point,
        machine,
        network,
        started: None,
        power: PowerState::Off,
        standalone: false,
        blocks,
        written: BTreeSet::new(),
    };
    site.recovered.insert(item, recovered);
    Done::changed(answer)
}

fn inventory(site: &SiteState) -> Inventory {
    let mut objects = vec![];
    let mut add = |kind, item: &ItemName, name: String, blocks: usize| {
        objects.push(OwnedObject { kind, item: Some(item.clone()), name, bytes: blocks as u64 * BLOCK_BYTES });
    };
    for (item, replica) in &site.replicas {
        add(ObjectKind::Record, item, format!("{item}/journal"), 0);
        if let Some(part) = &replica.part {
            add(ObjectKind::Temporary, item, format!("{item}/part"), part.len());
        }
        for p in replica.points.iter().filter(|_| !replica.removed) {
            add(ObjectKind::PointFile, item, format!("{item}/p{}", p.point.id), p.blocks.len());
        }
        for generation in replica.extent_maps.keys() {
            add(ObjectKind::Record, item, format!("{item}/extents.{generation}"), 0);
        }
    }
    for (item, r) in &site.recovered {
        add(ObjectKind::MachineDisk, item, format!("{item}/run.{}", r.token), r.blocks.len());
        if r.started.is_some() {
            add(ObjectKind::Machine, item, r.machine.clone(), 0);
        }
    }
    for (item, l) in &site.loops {
        if site.machines.get(&l.wanted.machine).is_some_and(|m| m.mark.is_some()) {
            add(ObjectKind::Checkpoint, item, format!("{item}/mark"), 0);
        }
    }
    objects.sort();
    Inventory { objects }
}
