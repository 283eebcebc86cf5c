//! Ending a machine that must not run here, because it was started elsewhere while this site was away.
//!
//! ```text
//!   fence record ─▶ autostart off, flag and mark ─▶ its process ended ─▶ look ─▶ proof
//! ```
//!
//! What is left is a fenced machine, as if somebody had reached this site in time: it may become the base of the way home, and
//! a failover that is undone may lift the fence. Nothing starts it but a person.
//!
//! Invariants: 1. The record is written first, so that a repeat knows how the machine was. 2. It is named by the generation that
//! runs elsewhere: less than any call of that generation, more than any of an older one. 3. A machine that a recovery made here
//! under that generation or a newer one is not touched.

use provider::{FenceMethod, ProviderError};
use recovery::{EffectToken, Generation, ItemName};

use super::{autostart::Autostart, worker::Tools};
use crate::{
    definition,
    durable::{self, failed},
    fenced::{self, FenceRecord},
    hypervisor::Vm,
};

/// Remembers that the machine is to be ended, so that this is done even if the target is not heard again.
pub(super) fn note(
    tools: &Tools,
    autostart: &Autostart,
    item: &ItemName,
    machine: &str,
    newest: Generation,
) -> Result<(), ProviderError> {
    tools.guard.still_writer()?;
    match concerned(tools, machine, newest)? {
        Some(vm) => store_begun(tools, autostart, item, &vm, newest).map(drop),
        None => Ok(()),
    }
}

/// The machine, if it is there and none that runs elsewhere under that generation.
fn concerned(tools: &Tools, machine: &str, newest: Generation) -> Result<Option<Vm>, ProviderError> {
    let vm = match tools.hypervisor.by_name(machine) {
        Err(ProviderError::NoSuchMachine { .. }) => return Ok(None),
        other => other?,
    };
    let newer = made_by(&vm)?.is_some_and(|generation| generation >= newest);
    Ok((!newer).then_some(vm))
}

fn store_begun(
    tools: &Tools,
    autostart: &Autostart,
    item: &ItemName,
    vm: &Vm,
    newest: Generation,
) -> Result<FenceRecord, ProviderError> {
    let dir = fenced::dir(tools.guard.state_dir(), item);
    durable::make_dir(&dir).map_err(failed("make directory", &dir))?;
    let earlier = fenced::in_force(&dir)?;
    let token = EffectToken { era: newest.era, grant_epoch: newest.grant_epoch, seq: 0, run_epoch: 0, attempt: 0 };
    let now = (vm.active()?, vm.autostart()? || autostart.held()?);
    let record = FenceRecord::begun(token, &vm.name, now, earlier.as_ref(), None);
    fenced::store(&dir, &record)?;
    Ok(record)
}

/// Makes it true that the machine is off and stays off. May be repeated.
pub(super) fn quarantine(
    tools: &Tools,
    autostart: &Autostart,
    item: &ItemName,
    machine: &str,
    newest: Generation,
) -> Result<(), ProviderError> {
    tools.guard.still_writer()?;
    let Some(vm) = concerned(tools, machine, newest)? else { return autostart.release() };
    let processes = vm.processes()?;
    let running = vm.active()?;
    let mut record = store_begun(tools, autostart, item, &vm, newest)?;
    autostart.release()?;
    if vm.autostart()? {
        vm.set_autostart(false)?;
    }
    if running {
        tools.guard.about_to("destroy");
        vm.power_off(&processes)?;
    }
    let method = if running { FenceMethod::Destroyed } else { FenceMethod::AlreadyOff };
    let detail = format!("quarantined by this site's agent, because generation {newest} runs elsewhere; libvirt says that it is off");
    record.proof = Some(fenced::prove(&vm, vm.autostart()?, "quarantine", method, detail)?);
    fenced::store(&fenced::dir(tools.guard.state_dir(), item), &record)
}

/// The generation of the recovery that made a machine, if one did.
fn made_by(vm: &Vm) -> Result<Option<Generation>, ProviderError> {
    let owner = definition::owner(&vm.definition()?);
    let token = owner.as_deref().and_then(|o| o.split_once(' ')).and_then(|(_, token)| token.parse::<EffectToken>().ok());
    Ok(token.map(|t| t.generation()))
}
