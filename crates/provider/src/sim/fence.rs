//! Simulated fencing.

use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use recovery::ItemName;

use super::{
    Op, SimSite,
    site::{Asked, Done},
    state::{SimFence, SiteState},
};
use crate::{Call, Fence, FenceMethod, FenceProof, FenceState, Phase, PowerState, ProviderError};

#[async_trait]
impl Fence for SimSite {
    async fn fence(&self, call: &Call, item: &ItemName, machine: &str) -> Result<FenceProof, ProviderError> {
        self.effect(Asked::on(Op::Fence, call, item), |site, now| {
            if !site.machines.contains_key(machine) && site.taken(item, machine) {
                return Done::repeated(proof(machine, FenceMethod::AlreadyOff, now));
            }
            let mut done = fenced(site, call, item, machine, FenceMethod::Destroyed, now)?;
            if let Some(l) = site.loops.get_mut(item).filter(|l| !l.ended()) {
                l.end(Phase::Stopped);
                done.changed = true;
            }
            Ok(done)
        })
        .await
    }

    async fn shut_down(&self, call: &Call, item: &ItemName, machine: &str, patience: Duration) -> Result<FenceProof, ProviderError> {
        self.effect(Asked::on(Op::ShutDown, call, item), |site, now| {
            let guest = site.guest(machine);
            if site.machine(machine)?.power != PowerState::Off && guest.ignores_shut_down {
                let waited_ms = u64::try_from(patience.as_millis()).unwrap_or(u64::MAX);
                return Err(ProviderError::StillRunning { machine: machine.to_owned(), waited_ms });
            }
            fenced(site, call, item, machine, FenceMethod::ShutDown, now)
        })
        .await
    }

    async fn observe_fence(&self, item: &ItemName, machine: &str) -> Result<FenceState, ProviderError> {
        self.look(Op::ObserveFence, Some(item), |site| {
            let m = site.machine(machine)?;
            let (power, autostart, uuid) = (m.power, m.autostart, m.uuid.clone());
            Ok(match site.fences.get(item).filter(|f| f.uuid == uuid) {
                None => FenceState::Open { power, autostart },
                Some(f) if power == PowerState::Off && !autostart => {
                    FenceState::Fenced { token: f.token, proof: f.proof.clone() }
                }
                Some(f) => FenceState::Broken { token: f.token, power, autostart },
            })
        })
        .await
    }

    async fn lift_fence(&self, call: &Call, item: &ItemName, machine: &str) -> Result<(), ProviderError> {
        self.effect(Asked::on(Op::LiftFence, call, item), |site, _now| {
            let Some(fence) = lifted(site, item, machine)? else { return Done::repeated(()) };
            if fence.was_running {
                site.machine(machine)?.power = PowerState::Running;
            }
            Done::changed(())
        })
        .await
    }

    async fn start_source(&self, call: &Call, item: &ItemName, machine: &str) -> Result<(), ProviderError> {
        self.effect(Asked::on(Op::StartSource, call, item), |site, _now| {
            let fence = lifted(site, item, machine)?;
            let m = site.machine(machine)?;
            let changed = fence.is_some() || m.power != PowerState::Running;
            m.power = PowerState::Running;
            Ok(Done { answer: (), changed })
        })
        .await
    }
}

/// Ends the machine in this way, unless it is fenced as it is, and remembers how it was.
fn fenced(
    site: &mut SiteState,
    call: &Call,
    item: &ItemName,
    machine: &str,
    method: FenceMethod,
    now: DateTime<Utc>,
) -> Result<Done<FenceProof>, ProviderError> {
    let m = site.machine(machine)?;
    let (was_running, had_autostart, uuid) = (m.power != PowerState::Off, m.autostart, m.uuid.clone());
    let standing = site.fences.get(item).filter(|f| f.uuid == uuid);
    if let Some(f) = standing.filter(|_| !was_running && !had_autostart) {
        return Done::repeated(f.proof.clone());
    }
    let (ran_before, started_before) = standing.map_or((false, false), |f| (f.was_running, f.had_autostart));
    let m = site.machine(machine)?;
    m.end();
    m.autostart = false;
    let proof = proof(machine, if was_running { method } else { FenceMethod::AlreadyOff }, now);
    let fence = SimFence {
        token: call.token,
        uuid,
        proof: proof.clone(),
        was_running: was_running || ran_before,
        had_autostart: had_autostart || started_before,
    };
    site.fences.insert(item.clone(), fence);
    Done::changed(proof)
}

/// Ends the fence that is in force on the machine, if one is, and puts autostart back.
fn lifted(site: &mut SiteState, item: &ItemName, machine: &str) -> Result<Option<SimFence>, ProviderError> {
    let uuid = site.machine(machine)?.uuid.clone();
    if site.fences.get(item).is_none_or(|f| f.uuid != uuid) {
        return Ok(None);
    }
    let fence = site.fences.remove(item);
    site.machine(machine)?.autostart = fence.as_ref().is_some_and(|f| f.had_autostart);
    Ok(fence)
}

fn proof(machine: &str, method: FenceMethod, observed_at: DateTime<Utc>) -> FenceProof {
    let detail = format!("simulated machine {machine} is off");
    FenceProof { machine: machine.to_owned(), method, power: PowerState::Off, autostart_off: true, observed_at, detail }
}
