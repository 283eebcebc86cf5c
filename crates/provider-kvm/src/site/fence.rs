//! The port for fencing.
//!
//! What the machine was like is written before it is ended (`fenced`), so that lifting can restore it whatever happened between.

mod gentle;

use std::{path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use provider::{Call, Fence, FenceMethod, FenceProof, FenceState, PowerState, ProviderError};
use recovery::ItemName;

use super::{KvmSite, old_machine};
use crate::{
    durable::{self, failed},
    fenced::{self as record, FenceRecord},
    guard::Right,
    hypervisor::Vm,
    source::{Autostart, Source},
};

/// What belongs to the fence of one item.
struct Ground<'a> {
    dir: PathBuf,
    autostart: Autostart,
    source: Option<Arc<Source>>,
    item: &'a ItemName,
}

impl<'a> Ground<'a> {
    fn of(site: &KvmSite, item: &'a ItemName) -> Self {
        let host = &site.inner.host;
        let dir = record::dir(&host.config.state_dir, item);
        Self { dir, autostart: site.autostart(item), source: site.inner.source(item), item }
    }

    /// By libvirt, or by the agent in its place.
    fn autostart_of(&self, vm: &Vm) -> Result<bool, ProviderError> {
        Ok(vm.autostart()? || self.autostart.held()?)
    }

    /// Puts autostart where it belongs: with the agent while the machine is replicated, else with libvirt.
    fn restore_autostart(&self, vm: &Vm) -> Result<(), ProviderError> {
        if self.source.as_ref().is_some_and(|s| s.goes_on()) {
            tracing::debug!(item = %self.item, "the agent starts the machine with the host");
            return self.autostart.hold();
        }
        if vm.persistent()? { vm.set_autostart(true) } else { Ok(()) }
    }
}

/// Looks at the machine now. An error if it could write.
fn prove(ground: &Ground<'_>, vm: &Vm, method: FenceMethod) -> Result<FenceProof, ProviderError> {
    let detail = format!("libvirt says that {} ({}) is off and has no autostart", vm.name, vm.uuid);
    record::prove(vm, ground.autostart_of(vm)?, "fence", method, detail)
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

/// Ends the fence that is in force, if one is, with autostart as it was. The machine runs if it did before, or if it `must`.
fn undo(site: &KvmSite, right: &Right<'_>, machine: &str, must_run: bool) -> Result<(), ProviderError> {
    let vm = site.inner.host.hypervisor.by_name(machine)?;
    let ground = Ground::of(site, right.item);
    let fence = record::in_force(&ground.dir)?;
    let was_running = match &fence {
        Some(fence) => fence.was_running,
        // A guest that went down after it was waited for is no fence, but it was running.
        None => record::asked(&ground.dir, right.call.token.generation())?.is_some() && !vm.active()?,
    };
    if fence.as_ref().is_some_and(|fence| fence.had_autostart) {
        ground.restore_autostart(&vm)?;
    }
    if was_running || must_run {
        let_run(&vm, right)?;
    }
    if fence.is_some() {
        record::lift(&ground.dir, right.call.token)?;
    }
    record::forget_asked(&ground.dir)
}

#[async_trait]
impl Fence for KvmSite {
    async fn fence(&self, call: &Call, item: &ItemName, machine: &str) -> Result<FenceProof, ProviderError> {
        let (name, machine) = (item.clone(), machine.to_owned());
        self.effect("fence", call, item, move |site, item, right| {
            let host = &site.inner.host;
            let vm = match host.hypervisor.by_name(&machine) {
                Err(unknown @ ProviderError::NoSuchMachine { .. }) => return old_machine::gone(site, item, &machine)?.ok_or(unknown),
                vm => vm?,
            };
            let processes = vm.processes()?;
            let ground = Ground::of(site, &name);
            durable::make_dir(&ground.dir).map_err(failed("make directory", &ground.dir))?;
            let (running, autostart) = (vm.active()?, ground.autostart_of(&vm)?);
            let earlier = record::in_force(&ground.dir)?;
            let asked = record::asked(&ground.dir, right.call.token.generation())?;
            let mut fence = FenceRecord::begun(right.call.token, &machine, (running, autostart), earlier.as_ref(), asked.as_ref());
            record::store(&ground.dir, &fence)?;
            if let Some(source) = &ground.source {
                source.halt()?;
            }
            if autostart {
                right.before("autostart")?;
                ground.autostart.release()?;
                vm.set_autostart(false)?;
            }
            if running {
                right.before("destroy")?;
                vm.power_off(&processes)?;
            }
            let method = if running { FenceMethod::Destroyed } else { FenceMethod::AlreadyOff };
            let proof = prove(&ground, &vm, method)?;
            fence.proof = Some(proof.clone());
            record::store(&ground.dir, &fence)?;
            record::forget_asked(&ground.dir)?;
            Ok(proof)
        })
        .await
    }

    async fn shut_down(&self, call: &Call, item: &ItemName, machine: &str, patience: Duration) -> Result<FenceProof, ProviderError> {
        let (name, machine) = (item.clone(), machine.to_owned());
        self.effect("shut down", call, item, move |site, _item, right| {
            let vm = site.inner.host.hypervisor.by_name(&machine)?;
            let ground = Ground::of(site, &name);
            durable::make_dir(&ground.dir).map_err(failed("make directory", &ground.dir))?;
            // A third: then the guest is asked once more, and goes on being replicated if it stays.
            let _lull = ground.source.as_ref().map(|source| source.lull(patience / 3));
            site.inner.tools.pauser.until_let_go(&name);
            gentle::shut_down(&ground, right, &vm, patience)
        })
        .await
    }

    async fn observe_fence(&self, item: &ItemName, machine: &str) -> Result<FenceState, ProviderError> {
        let (name, machine) = (item.clone(), machine.to_owned());
        self.blocking("observe fence", move |site| {
            let vm = site.inner.host.hypervisor.by_name(&machine)?;
            let ground = Ground::of(site, &name);
            let (power, autostart) = (vm.power()?, ground.autostart_of(&vm)?);
            let record = record::in_force(&ground.dir)?;
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
        let machine = machine.to_owned();
        self.effect("lift fence", call, item, move |site, _item, right| undo(site, right, &machine, false)).await
    }

    async fn start_source(&self, call: &Call, item: &ItemName, machine: &str) -> Result<(), ProviderError> {
        let machine = machine.to_owned();
        self.effect("start source", call, item, move |site, _item, right| undo(site, right, &machine, true)).await
    }
}
