//! Simulated machines.

use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use recovery::{Generation, ItemName};

use super::{
    BLOCK_BYTES, Op, SimSite,
    machine::{Image, Mark, Origin, SimMachine, networks, uuid_of},
    site::{Asked, Done},
    state::{SimRecovered, SiteState},
};
use crate::{
    Applied, Call, Compute, Disk, Inventory, Machine, NetworkChoice, PowerState, Progress, ProgressSink, ProviderError,
    RecoverMachine, Recovered, RecoveredState, Started, Written,
};

#[async_trait]
impl Compute for SimSite {
    async fn inspect(&self, machine: &str) -> Result<Machine, ProviderError> {
        self.look(Op::Inspect, None, |site| site.protectable(machine)).await
    }

    async fn recover(&self, call: &Call, wanted: RecoverMachine) -> Result<Recovered, ProviderError> {
        let item = wanted.item.clone();
        let asked = Asked::of(Op::Recover, call, &item, wanted.generation).at(wanted.point);
        self.effect(asked, |site, _now| recover(site, call, wanted)).await
    }

    async fn start_machine(&self, call: &Call, item: &ItemName, generation: Generation) -> Result<Started, ProviderError> {
        let asked = Asked::of(Op::StartMachine, call, item, generation);
        self.effect(asked, |site, now| start(site, item, generation, now)).await
    }

    async fn discard(&self, call: &Call, item: &ItemName, generation: Generation) -> Result<(), ProviderError> {
        let asked = Asked::of(Op::Discard, call, item, generation);
        self.effect(asked, |site, _now| {
            let kept = site.replicas.contains_key(item);
            if let Some(r) = site.recovered.get(&(item.clone(), generation)).filter(|r| kept && r.retired) {
                return Err(refused("discard", &r.name, "it was retired: its disks belong to the next replica".to_owned()));
            }
            let Some(r) = site.recovered.remove(&(item.clone(), generation)) else { return Done::repeated(()) };
            site.take(&r.name, &Origin::Recovered { item: item.clone(), generation });
            if let Some(user) = r.displaced {
                site.give_back(item, &r.name, user);
            }
            Done::changed(())
        })
        .await
    }

    async fn run_in_guest(&self, item: &ItemName, generation: Generation, program: &str, arguments: &[String]) -> Result<String, ProviderError> {
        self.look(Op::RunInGuest, Some(item), |site| {
            let not_recovered = || ProviderError::NotRecovered { item: item.clone(), generation };
            let name = site.recovered.get(&(item.clone(), generation)).filter(|r| r.started.is_some()).ok_or_else(not_recovered)?.name.clone();
            let runs = site.made(item, generation).is_some_and(|machine| machine.power == PowerState::Running);
            if !runs || site.guest(&name).silent {
                let detail = if runs { "its agent does not answer" } else { "it does not run" };
                return Err(ProviderError::NotServing { machine: name, detail: detail.to_owned() });
            }
            let words = [&[program.to_owned()], arguments].concat().join(" ");
            Ok(format!("guest:{words} exits with 0"))
        })
        .await
    }

    async fn written(&self, item: &ItemName, generation: Generation) -> Result<Written, ProviderError> {
        self.look(Op::Written, Some(item), |site| {
            let not_recovered = || ProviderError::NotRecovered { item: item.clone(), generation };
            let r = site.recovered.get(&(item.clone(), generation)).filter(|r| r.started.is_some()).ok_or_else(not_recovered)?;
            let machine = site.made(item, generation).ok_or_else(not_recovered)?;
            let counted = machine.image.marks.get(&Mark::Failover(generation)).ok_or_else(|| ProviderError::Platform {
                operation: "written".to_owned(),
                target: r.name.clone(),
                detail: "the record of its changes is lost".to_owned(),
                applied: Applied::No,
            })?;
            let blocks = counted.len() as u64;
            Ok(Written { blocks, bytes: blocks * BLOCK_BYTES })
        })
        .await
    }

    async fn retire(&self, call: &Call, item: &ItemName, generation: Generation) -> Result<(), ProviderError> {
        let asked = Asked::of(Op::Retire, call, item, generation);
        self.effect(asked, |site, _now| retire(site, item, generation)).await
    }

    async fn observe_machine(&self, item: &ItemName, generation: Generation) -> Result<RecoveredState, ProviderError> {
        self.look(Op::ObserveMachine, Some(item), |site| {
            let Some(r) = site.recovered.get(&(item.clone(), generation)) else { return Ok(RecoveredState::Absent) };
            let (token, point) = (r.token, r.point);
            let power = site.made(item, generation).map_or(PowerState::Off, |m| m.power);
            Ok(match r.started {
                None => RecoveredState::Prepared { token, point },
                Some(since) => RecoveredState::Started { token, point, since, power, standalone: r.standalone },
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
            let blocks = site.made(item, generation).map_or(0, |m| m.image.blocks.len());
            let autostart = site.replica(item).is_ok_and(|replica| replica.wanted.machine.autostart);
            let r = site.recovered(item, generation)?;
            if r.started.is_none() {
                return Err(ProviderError::NotRecovered { item: item.clone(), generation });
            }
            if !r.standalone {
                told(&*progress, "flatten", item, blocks)?;
            }
            let (name, changed) = (r.name.clone(), !std::mem::replace(&mut r.standalone, true));
            let origin = Origin::Recovered { item: item.clone(), generation };
            if let Some(m) = site.machines.get_mut(&name).filter(|m| m.origin == origin) {
                m.autostart |= autostart;
            }
            Ok(Done { answer: (), changed })
        })
        .await
    }

    async fn inventory(&self) -> Result<Inventory, ProviderError> {
        self.look(Op::Inventory, None, |site| Ok(super::inventory::of(site))).await
    }
}

/// Reports a copy of so many blocks as three steps.
pub(super) fn told(progress: &dyn ProgressSink, operation: &str, item: &ItemName, blocks: usize) -> Result<(), ProviderError> {
    let bytes_total = blocks as u64 * BLOCK_BYTES;
    for bytes_done in [0, bytes_total / 2, bytes_total] {
        if progress.report(Progress { bytes_done, bytes_total }).is_break() {
            return Err(ProviderError::Stopped { operation: operation.to_owned(), target: item.to_string() });
        }
    }
    Ok(())
}

fn recover(site: &mut SiteState, call: &Call, wanted: RecoverMachine) -> Result<Done<Recovered>, ProviderError> {
    let RecoverMachine { item, generation, point, network } = wanted;
    let mut garbage = vec![];
    for (other, r) in site.all_recovered(&item) {
        if other > generation {
            return Err(ProviderError::Superseded { item: item.clone(), given: generation, newest: other });
        }
        if other == generation && r.point == point && r.network == network {
            return Done::repeated(Recovered { token: r.token, point, machine: r.name.clone() });
        }
        if r.retired {
            continue;
        }
        if r.started.is_some() && other < generation {
            return Err(ProviderError::OlderMachine { item: item.clone(), older: other, point: r.point });
        }
        if r.started.is_some() {
            let detail = format!("generation {generation} already runs, from point {}", r.point);
            return Err(refused("recover", item.as_str(), detail));
        }
        garbage.push(other);
    }
    let replica = site.replica(&item)?;
    let blocks = replica.offered(point)?.blocks.clone();
    let of = replica.machine.clone();
    garbage.into_iter().for_each(|other| drop(site.recovered.remove(&(item.clone(), other))));
    let machine = SimMachine {
        uuid: uuid_of(&of.uuid, generation, 0),
        power: PowerState::Off,
        autostart: false,
        disks: moved(&of.disks, &format!("{item}/run.{}", call.token)),
        networks: networks(&of.definition).into_iter().map(|name| renamed(&network, name)).collect(),
        origin: Origin::Recovered { item: item.clone(), generation },
        image: Image::of(blocks),
    };
    let answer = Recovered { token: call.token, point, machine: of.name.clone() };
    let recovered = SimRecovered {
        token: call.token,
        point,
        name: of.name,
        network,
        started: None,
        standalone: false,
        retired: false,
        held: Some(machine),
        displaced: None,
    };
    site.recovered.insert((item, generation), recovered);
    Done::changed(answer)
}

/// The same disks elsewhere.
pub(super) fn moved(disks: &[Disk], stem: &str) -> Vec<Disk> {
    disks.iter().map(|d| Disk { path: format!("{stem}.{}", d.target), ..d.clone() }).collect()
}

fn renamed(network: &NetworkChoice, name: String) -> String {
    match network {
        NetworkChoice::AsDefined => name,
        NetworkChoice::Renamed(names) => names.get(&name).cloned().unwrap_or(name),
    }
}

/// A machine that somebody has switched off since is switched on again: that is still the one start.
fn start(site: &mut SiteState, item: &ItemName, generation: Generation, now: DateTime<Utc>) -> Result<Done<Started>, ProviderError> {
    let r = site.recovered(item, generation)?;
    if r.retired {
        return Err(ProviderError::NotRecovered { item: item.clone(), generation });
    }
    let (name, token, point) = (r.name.clone(), r.token, r.point);
    let answer = |since| Started { token, point, machine: name.clone(), since };
    if let Some(since) = r.started {
        site.machine(&name)?.power = PowerState::Running;
        return Done::repeated(answer(since));
    }
    let displaced = displace(site, item, &name)?;
    let r = site.recovered(item, generation)?;
    r.displaced = displaced;
    r.started = Some(now);
    let Some(mut machine) = r.held.take() else {
        return Err(refused("start_machine", &name, "its disks are gone".to_owned()));
    };
    machine.image.marks.insert(Mark::Failover(generation), Default::default());
    machine.power = PowerState::Running;
    site.machines.insert(name.clone(), machine);
    Done::changed(answer(now))
}

/// Takes the item's own fenced machine out of the way of one of the same name; no other machine is touched.
fn displace(site: &mut SiteState, item: &ItemName, name: &str) -> Result<Option<SimMachine>, ProviderError> {
    let Some(there) = site.machines.get(name) else { return Ok(None) };
    let fenced = site.fences.get(item).is_some_and(|f| f.uuid == there.uuid);
    if there.origin == Origin::Original && there.power == PowerState::Off && !there.autostart && fenced {
        return Ok(site.machines.remove(name));
    }
    Err(refused("start_machine", name, "another machine of that name exists at this site".to_owned()))
}

fn retire(site: &mut SiteState, item: &ItemName, generation: Generation) -> Result<Done<()>, ProviderError> {
    let origin = Origin::Recovered { item: item.clone(), generation };
    if site.replicas.get(item).and_then(|r| r.base.as_ref()).is_some_and(|base| base.machine.origin == origin) {
        return Done::repeated(());
    }
    let not_recovered = || ProviderError::NotRecovered { item: item.clone(), generation };
    let r = site.recovered.get(&(item.clone(), generation)).filter(|r| r.started.is_some()).ok_or_else(not_recovered)?;
    if r.retired {
        return Done::repeated(());
    }
    let name = r.name.clone();
    if site.machine(&name)?.power != PowerState::Off {
        return Err(ProviderError::StillRunning { machine: name, waited_ms: 0 });
    }
    let held = site.take(&name, &origin);
    let r = site.recovered(item, generation)?;
    (r.held, r.retired) = (held, true);
    Done::changed(())
}

pub(super) fn refused(operation: &str, target: &str, detail: String) -> ProviderError {
    ProviderError::Platform { operation: operation.to_owned(), target: target.to_owned(), detail, applied: Applied::No }
}
