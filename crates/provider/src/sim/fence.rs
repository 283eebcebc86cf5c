//! Simulated fencing.

use std::time::Duration;

use async_trait::async_trait;
use recovery::ItemName;

use super::{
    Op, SimSite,
    site::{Asked, Done},
    state::SimFence,
};
use crate::{Call, Fence, FenceMethod, FenceProof, FenceState, Phase, PowerState, ProviderError};

#[async_trait]
impl Fence for SimSite {
    async fn fence(&self, call: &Call, item: &ItemName, machine: &str) -> Result<FenceProof, ProviderError> {
        self.effect(Asked::on(Op::Fence, call, item), |site, now| {
            let standing = site.fences.get(item).map(|f| f.proof.clone());
            let m = site.machine(machine)?;
            let (was_running, had_autostart) = (m.power != PowerState::Off, m.autostart);
            if let Some(proof) = standing.filter(|_| !was_running && !had_autostart) {
                return Done::repeated(proof);
            }
            m.power = PowerState::Off;
            m.autostart = false;
            let proof = FenceProof {
                machine: machine.to_owned(),
                method: if was_running { FenceMethod::Destroyed } else { FenceMethod::AlreadyOff },
                power: PowerState::Off,
                autostart_off: true,
                observed_at: now,
                detail: format!("simulated machine {machine} is off"),
            };
            if let Some(l) = site.loops.get_mut(item) {
                l.status.phase = Phase::Stopped;
            }
            let earlier = site.fences.remove(item);
            let fence = SimFence {
                token: call.token,
                proof: proof.clone(),
                was_running: was_running || earlier.as_ref().is_some_and(|f| f.was_running),
                had_autostart: had_autostart || earlier.as_ref().is_some_and(|f| f.had_autostart),
            };
            site.fences.insert(item.clone(), fence);
            Done::changed(proof)
        })
        .await
    }

    async fn shut_down(&self, _call: &Call, _item: &ItemName, _machine: &str, _patience: Duration) -> Result<FenceProof, ProviderError> {
        Err(super::not_built("shut_down"))
    }

    async fn observe_fence(&self, item: &ItemName, machine: &str) -> Result<FenceState, ProviderError> {
        self.look(Op::ObserveFence, Some(item), |site| {
            let m = site.machine(machine)?;
            let (power, autostart) = (m.power, m.autostart);
            Ok(match site.fences.get(item) {
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
            site.machine(machine)?;
            let Some(fence) = site.fences.remove(item) else { return Done::repeated(()) };
            let m = site.machine(machine)?;
            m.autostart = fence.had_autostart;
            if fence.was_running {
                m.power = PowerState::Running;
            }
            Done::changed(())
        })
        .await
    }
}
