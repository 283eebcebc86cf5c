//! Shutting a guest down by its own will: the gentle way into a fence.
//!
//! ```text
//!   "asked" ─▶ agent ─▶ power button after a third of the patience, or when the agent fails, and again after two
//!      │                     │ off by its own doing                        │ still there
//!      │                     ▼                                             ▼
//!      │              record ─▶ autostart off ─▶ look ─▶ proof        StillRunning; nothing is recorded
//!      └─ what a repeat, a fence or a lift needs to know of a machine that has gone off meanwhile
//! ```
//!
//! | the guest …                                  | the answer                                                             |
//! |----------------------------------------------|------------------------------------------------------------------------|
//! | shuts down within the patience               | fenced, `ShutDown`                                                     |
//! | shuts down later                             | `StillRunning`; not fenced. A lift of that generation starts it again  |
//! | ignores agent and button, or reboots instead | `StillRunning`                                                         |
//! | is off already                               | fenced, `AlreadyOff`; `ShutDown` if a repeat finds what was asked done |
//! | has its process killed, or crashes           | `Platform`; not fenced: it was not shut down and may have lost data    |
//! | is paused                                    | `Platform`, nothing was asked: it can't hear                           |
//! | would be started again (`on_poweroff`)       | `Platform`, nothing was asked                                          |
//!
//! Invariants: 1. Autostart and replication are touched only once the machine is off. 2. A machine that is not off has no record.

use std::{
    sync::mpsc::{self, Receiver, TryRecvError},
    thread,
    time::{Duration, Instant},
};

use provider::{Applied, FenceMethod, FenceProof, PowerState, ProviderError};

use super::{
    Ground, prove,
    record::{self, Asked, FenceRecord},
};
use crate::{
    definition,
    guard::Right,
    hypervisor::{ShutDownBy, Vm},
    pidfd::Pidfd,
};

/// How often it is looked whether the agent has failed meanwhile.
const LOOK: Duration = Duration::from_millis(100);

/// Asks the guest to go, and fences the machine if it does. The caller holds the item.
pub(super) fn shut_down(ground: &Ground<'_>, right: &Right<'_>, vm: &Vm, patience: Duration) -> Result<FenceProof, ProviderError> {
    let earlier = record::in_force(&ground.dir)?;
    let asked = record::asked(&ground.dir, right.call.token.generation())?;
    match vm.power()? {
        PowerState::Off => {
            let method = match (&earlier, &asked) {
                (Some(FenceRecord { proof: Some(proof), .. }), _) => proof.method,
                (_, Some(_)) if vm.shut_itself_down()? => FenceMethod::ShutDown,
                (_, Some(_) | None) => FenceMethod::AlreadyOff,
            };
            settle(ground, right, vm, method, (earlier.as_ref(), asked.as_ref()))
        }
        PowerState::Paused => Err(refused(vm, Applied::No, "it is paused, so its guest can't hear; resume it, then repeat".to_owned())),
        PowerState::Running => {
            if let Some(other) = definition::on_poweroff(&vm.live_definition()?).filter(|action| action != "destroy") {
                let detail = format!("its definition says on_poweroff={other}, so it would not stay off; change that to destroy, then repeat");
                return Err(refused(vm, Applied::No, detail));
            }
            let had_autostart = ground.autostart_of(vm)? || earlier.as_ref().is_some_and(|e| e.had_autostart);
            let asked = Asked { version: 1, token: right.call.token, machine: vm.name.clone(), had_autostart };
            record::store_asked(&ground.dir, &asked)?;
            persuade(right, vm, patience)?;
            if !vm.shut_itself_down()? {
                let detail = "it ended, but not because its guest shut down; look at its log before it is started again".to_owned();
                return Err(refused(vm, Applied::Unknown, detail));
            }
            settle(ground, right, vm, FenceMethod::ShutDown, (earlier.as_ref(), Some(&asked)))
        }
    }
}

fn refused(vm: &Vm, applied: Applied, detail: String) -> ProviderError {
    ProviderError::Platform { operation: "shut down".to_owned(), target: vm.name.clone(), detail, applied }
}

/// Makes it a fence that the machine is off; or, if it is not off any more, leaves everything as it was.
fn settle(
    ground: &Ground<'_>,
    right: &Right<'_>,
    vm: &Vm,
    method: FenceMethod,
    (earlier, asked): (Option<&FenceRecord>, Option<&Asked>),
) -> Result<FenceProof, ProviderError> {
    let fence = FenceRecord::begun(right.call.token, &vm.name, (false, ground.autostart_of(vm)?), earlier, asked);
    right.before("autostart")?;
    record::store(&ground.dir, &fence)?;
    ground.autostart.release()?;
    if vm.autostart()? {
        vm.set_autostart(false)?;
    }
    match prove(ground, vm, method) {
        Ok(proof) => {
            record::store(&ground.dir, &FenceRecord { proof: Some(proof.clone()), ..fence })?;
            record::forget_asked(&ground.dir)?;
            Ok(proof)
        }
        Err(error) => {
            if fence.had_autostart {
                ground.restore_autostart(vm)?;
            }
            record::withdraw(&ground.dir, right.call.token)?;
            Err(error)
        }
    }
}

/// Asks until the machine is off, or the patience is at its end.
fn persuade(right: &Right<'_>, vm: &Vm, patience: Duration) -> Result<(), ProviderError> {
    let begun = Instant::now();
    let processes = vm.processes()?;
    right.before("shutdown")?;
    let agent = ask_agent(vm)?;
    let mut agent_failed = false;
    let mut presses = [patience / 3, patience * 2 / 3].into_iter().peekable();
    while begun.elapsed() < patience {
        if off(vm, &processes, LOOK.min(patience.saturating_sub(begun.elapsed())))? {
            return Ok(());
        }
        if !agent_failed && let Some(error) = failed(&agent) {
            tracing::info!(machine = vm.name, %error, "the guest's agent can't shut it down; pressing the power button");
            agent_failed = true;
            press(right, vm)?;
        }
        if presses.next_if(|at| begun.elapsed() >= *at).is_some() {
            press(right, vm)?;
        }
    }
    if off(vm, &processes, Duration::ZERO)? {
        return Ok(());
    }
    tracing::warn!(machine = vm.name, ?patience, "the guest did not shut down, or it started again; it goes on running");
    let waited_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    Err(ProviderError::StillRunning { machine: vm.name.clone(), waited_ms })
}

/// Asks on a thread that is left behind if the agent never answers.
fn ask_agent(vm: &Vm) -> Result<Receiver<Result<(), ProviderError>>, ProviderError> {
    let (answer, answered) = mpsc::channel();
    let asking = vm.again();
    let thread = thread::Builder::new().name("ask-agent".to_owned());
    let spawned = thread.spawn(move || drop(answer.send(asking.ask_to_shut_down(ShutDownBy::Agent))));
    spawned.map(|_thread| answered).map_err(|e| refused(vm, Applied::No, format!("no thread for it: {e}")))
}

fn failed(agent: &Receiver<Result<(), ProviderError>>) -> Option<ProviderError> {
    match agent.try_recv() {
        Ok(Err(error)) => Some(error),
        Ok(Ok(())) | Err(TryRecvError::Empty | TryRecvError::Disconnected) => None,
    }
}

/// A button that can't be pressed is no reason to give up: the agent may still do it.
fn press(right: &Right<'_>, vm: &Vm) -> Result<(), ProviderError> {
    right.before("shutdown")?;
    if let Err(error) = vm.ask_to_shut_down(ShutDownBy::Button) {
        tracing::info!(machine = vm.name, %error, "the power button could not be pressed");
    }
    Ok(())
}

/// Waits so long for the end of the machine. Returns whether libvirt says that it is off.
fn off(vm: &Vm, processes: &[Pidfd], patience: Duration) -> Result<bool, ProviderError> {
    let running = processes.iter().find(|p| !p.wait(Duration::ZERO).unwrap_or(false));
    match running {
        Some(process) => drop(process.wait(patience).map_err(|e| refused(vm, Applied::Unknown, e.to_string()))?),
        // libvirt notices a moment later.
        None => thread::sleep(patience.min(Duration::from_millis(10))),
    }
    Ok(!vm.active()?)
}
