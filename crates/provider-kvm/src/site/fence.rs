//! The port for fencing.
//!
//! `STATE/fence/ITEM/fence.TOKEN.json` and `lifted.TOKEN`: the greatest token counts. What the machine was like is written
//! before it is ended, so that lifting can restore it whatever happened between.

use std::{fs, path::Path, time::Duration};

use async_trait::async_trait;
use chrono::Utc;
use provider::{Applied, Call, Fence, FenceMethod, FenceProof, FenceState, PowerState, ProviderError};
use recovery::{EffectToken, ItemName};
use serde::{Deserialize, Serialize};

use super::KvmSite;
use crate::{
    durable::{self, failed},
    guard::Right,
    hypervisor::Vm,
};

#[derive(Debug, Clone, Serialize, Deserialize)]
struct FenceRecord {
    version: u32,
    token: EffectToken,
    machine: String,
    was_running: bool,
    had_autostart: bool,
    /// Once it was proven.
    proof: Option<FenceProof>,
}

/// The fence in force; `None` if there is none or it was lifted.
fn in_force(dir: &Path) -> Result<Option<FenceRecord>, ProviderError> {
    let names = durable::names(dir).map_err(failed("list", dir))?;
    let token = |n: &str| n.split('.').nth(1).and_then(|t| t.parse::<EffectToken>().ok());
    let newest = names.iter().filter_map(|n| Some((token(n)?, n))).max();
    let Some((_, name)) = newest.filter(|(_, n)| n.starts_with("fence.")) else { return Ok(None) };
    let path = dir.join(name);
    let content = fs::read(&path).map_err(failed("read", &path))?;
    serde_json::from_slice(&content).map(Some).map_err(|e| failed("read", &path)(e.into()))
}

fn store(dir: &Path, record: &FenceRecord) -> Result<(), ProviderError> {
    let path = dir.join(format!("fence.{}.json", record.token));
    let json = serde_json::to_vec(record).map_err(|e| failed("write", &path)(e.into()))?;
    durable::write(&path, &json).map_err(failed("write", &path))
}

/// Looks at the machine now. An error if it could write.
fn prove(vm: &Vm, method: FenceMethod) -> Result<FenceProof, ProviderError> {
    let (power, autostart) = (vm.power()?, vm.autostart()?);
    if power != PowerState::Off || autostart {
        return Err(ProviderError::Platform {
            operation: "fence".to_owned(),
            target: vm.name.clone(),
            detail: format!("it is {power}, autostart is {}", if autostart { "on" } else { "off" }),
            applied: Applied::Unknown,
        });
    }
    Ok(FenceProof {
        machine: vm.name.clone(),
        method,
        power,
        autostart_off: true,
        observed_at: Utc::now(),
        detail: format!("libvirt says that {} ({}) is off and has no autostart", vm.name, vm.uuid),
    })
}

/// Starts a machine that was fenced. Paused at first: if another call has come meanwhile, which may have fenced it again, what
/// was started here is ended before it has run.
fn let_run(vm: &Vm, right: &Right<'_>) -> Result<(), ProviderError> {
    if !vm.active()? {
        right.before("create")?;
        vm.start_paused()?;
        let started = vm.processes()?;
        if let Err(late) = right.before("resume") {
            vm.power_off(&started)?;
            return Err(late);
        }
    }
    if vm.power()? == PowerState::Paused {
        vm.resume()?;
    }
    Ok(())
}

#[async_trait]
impl Fence for KvmSite {
    async fn fence(&self, call: &Call, item: &ItemName, machine: &str) -> Result<FenceProof, ProviderError> {
        let (name, machine) = (item.clone(), machine.to_owned());
        self.effect("fence", call, item, move |site, _item, right| {
            let host = &site.inner.host;
            let vm = host.hypervisor.by_name(&machine)?;
            let processes = vm.processes()?;
            let dir = host.config.state_dir.join("fence").join(name.as_str());
            durable::make_dir(&dir).map_err(failed("make directory", &dir))?;
            let (running, autostart) = (vm.active()?, vm.autostart()?);
            let earlier = in_force(&dir)?;
            let mut record = FenceRecord {
                version: 1,
                token: right.call.token,
                machine,
                was_running: running || earlier.as_ref().is_some_and(|e| e.was_running),
                had_autostart: autostart || earlier.as_ref().is_some_and(|e| e.had_autostart),
                proof: None,
            };
            store(&dir, &record)?;
            if let Some(source) = site.inner.source(&name) {
                source.halt()?;
            }
            if autostart {
                right.before("autostart")?;
                vm.set_autostart(false)?;
            }
            if running {
                right.before("destroy")?;
                vm.power_off(&processes)?;
            }
            let method = if running { FenceMethod::Destroyed } else { FenceMethod::AlreadyOff };
            let proof = prove(&vm, method)?;
            record.proof = Some(proof.clone());
            store(&dir, &record)?;
            Ok(proof)
        })
        .await
    }

    async fn shut_down(&self, _call: &Call, _item: &ItemName, _machine: &str, _patience: Duration) -> Result<FenceProof, ProviderError> {
        Err(super::not_built("shut down"))
    }

    async fn observe_fence(&self, item: &ItemName, machine: &str) -> Result<FenceState, ProviderError> {
        let (name, machine) = (item.clone(), machine.to_owned());
        self.blocking("observe fence", move |site| {
            let host = &site.inner.host;
            let vm = host.hypervisor.by_name(&machine)?;
            let (power, autostart) = (vm.power()?, vm.autostart()?);
            let record = in_force(&host.config.state_dir.join("fence").join(name.as_str()))?;
            Ok(match record {
                None => FenceState::Open { power, autostart },
                Some(FenceRecord { token, proof: Some(proof), .. }) if power == PowerState::Off && !autostart => {
                    FenceState::Fenced { token, proof }
                }
                Some(FenceRecord { token, .. }) => FenceState::Broken { token, power, autostart },
            })
        })
        .await
    }

    async fn lift_fence(&self, call: &Call, item: &ItemName, machine: &str) -> Result<(), ProviderError> {
        let (name, machine) = (item.clone(), machine.to_owned());
        self.effect("lift fence", call, item, move |site, _item, right| {
            let host = &site.inner.host;
            let vm = host.hypervisor.by_name(&machine)?;
            let dir = host.config.state_dir.join("fence").join(name.as_str());
            let Some(record) = in_force(&dir)? else { return Ok(()) };
            if record.had_autostart {
                vm.set_autostart(true)?;
            }
            if record.was_running {
                let_run(&vm, right)?;
            }
            let path = dir.join(format!("lifted.{}", right.call.token));
            durable::mark(&path).map_err(failed("write", &path))?;
            for earlier in durable::names(&dir).map_err(failed("list", &dir))?.iter().filter(|n| n.starts_with("fence.")) {
                let path = dir.join(earlier);
                durable::remove(&path).map_err(failed("remove", &path))?;
            }
            Ok(())
        })
        .await
    }
}
