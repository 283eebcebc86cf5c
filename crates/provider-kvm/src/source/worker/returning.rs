//! A loop that may not take points: it asks the target whether the machine may run here.
//!
//! ```text
//!   host boots, machine off, autostart ours ─▶ greet the target ─┬─ takes points ──────────────▶ start
//!                                                                ├─ runs there ────────────────▶ quarantine
//!   the target has a newer generation ───────▶ greet again ──────┼─ a newer generation, idle ──▶ ask again, do not start
//!                                                                ├─ knows nothing of the item ─▶ start
//!                                                                └─ silent for the patience ───▶ start, said loudly
//! ```
//!
//! A site that is cut off must come up again after a power failure; hence the start after silence. But where a failover was under
//! way when the target was last heard, silence starts nothing: the machine most likely runs there.
//!
//! Invariants: 1. Nothing is started under a fence, or without the agent's mark. 2. It is decided once a boot of the host. 3. What
//! is started is paused until it was looked again whether a fence came meanwhile.

use std::time::{Duration, Instant};

use provider::{Phase, PowerState, ProviderError, Replicate};
use recovery::Generation;

use super::{BACKOFF, MAX_BACKOFF, Shared};
use crate::{
    fenced,
    hypervisor::Vm,
    source::{autostart::Autostart, quarantine, record::Ended},
    stream::{Hello, Line, StreamError},
};

/// A target that has a newer generation is asked at least so often.
const ASK_AGAIN: Duration = Duration::from_secs(5);

/// How a thread has fared with asking.
#[derive(Debug, Default)]
pub(super) struct Asking {
    silent_since: Option<Instant>,
    tries: u32,
}

impl Asking {
    fn pause(&mut self, at_most: Duration) -> Duration {
        self.tries = (self.tries + 1).min(6);
        (BACKOFF * 2_u32.pow(self.tries - 1)).min(at_most)
    }
}

/// The target's word.
enum Word {
    Welcome,
    RunsThere(ProviderError, Generation),
    /// A newer generation has the item there, and has not started it.
    Newer(String),
    /// The item is not there.
    Unknown(String),
    Silence(String),
}

#[expect(clippy::wildcard_enum_match_arm, reason = "every other refusal says nothing of where the machine runs")]
fn refused(error: ProviderError) -> Word {
    match error {
        ProviderError::RunsHere { newest, .. } => Word::RunsThere(error, newest),
        ProviderError::Superseded { .. } | ProviderError::PointsWithdrawn { .. } => Word::Newer(error.to_string()),
        ProviderError::NoSuchReplica { .. } => Word::Unknown(error.to_string()),
        // It would take points of this generation, if they fitted.
        ProviderError::ReplicaMismatch { .. } => Word::Welcome,
        other => Word::Silence(other.to_string()),
    }
}

impl Shared {
    fn autostart(&self) -> Autostart {
        Autostart::new(self.dir.clone(), self.tools.guard.writer())
    }

    /// Whether there is something to do although the loop has ended with `ended`.
    pub(super) fn must_ask(&self, ended: Option<Ended>) -> bool {
        let due = self.autostart().due().unwrap_or_else(|error| {
            tracing::error!(%error, "it is not known whether a machine starts with the host");
            false
        });
        due || match ended {
            Some(Ended::Superseded) => true,
            Some(Ended::Quarantined) => !self.is_quarantined(),
            None | Some(Ended::Stopped) => false,
        }
    }

    /// Whether nothing is left to be done of a quarantine, if there is one.
    pub(super) fn is_quarantined(&self) -> bool {
        let (item, ended) = {
            let control = self.lock();
            (control.record.wanted.item.clone(), control.record.ended)
        };
        if ended != Some(Ended::Quarantined) {
            return true;
        }
        let fence = fenced::in_force(&fenced::dir(self.tools.guard.state_dir(), &item));
        // Without a fence in force it was lifted or adopted since.
        !fence.is_ok_and(|f| f.is_some_and(|f| f.proof.is_none()))
    }

    /// One step of what a loop does that may not take points. Returns how long to wait before the next.
    pub(super) fn ask(&self, wanted: &Replicate, ended: Option<Ended>, asking: &mut Asking) -> Duration {
        let step = match ended {
            Some(Ended::Quarantined) => self.finish_quarantine(wanted),
            Some(Ended::Superseded) if !self.autostart().due().unwrap_or(false) => self.ask_on(wanted),
            None | Some(Ended::Stopped | Ended::Superseded) => self.decide(wanted, ended, asking),
        };
        match step {
            Ok(true) => {
                *asking = Asking::default();
                Duration::ZERO
            }
            Ok(false) => asking.pause(ASK_AGAIN),
            Err(error) => {
                tracing::warn!(item = %wanted.item, %error, "it can't be decided yet whether the machine may run here");
                self.lock().status.last_error = Some(error.to_string());
                asking.pause(MAX_BACKOFF)
            }
        }
    }

    /// Names no disks: whatever the machine's disks are, the target first says who has the item.
    fn greet(&self, wanted: &Replicate) -> Word {
        let hello = Hello::new(wanted.item.clone(), wanted.generation, vec![]);
        match Line::open(&self.tools.tls, &wanted.endpoint, hello) {
            Ok(_line) => Word::Welcome,
            Err(StreamError::Refused(error)) => refused(error),
            Err(error @ (StreamError::Line(_) | StreamError::Protocol(_) | StreamError::Stopped | StreamError::Here(_))) => {
                Word::Silence(error.to_string())
            }
        }
    }

    /// Asks a target that had a newer generation whether the machine was started there. Returns whether that is settled.
    fn ask_on(&self, wanted: &Replicate) -> Result<bool, ProviderError> {
        match self.greet(wanted) {
            Word::RunsThere(why, newest) => self.quarantine(wanted, &why, newest),
            Word::Welcome | Word::Newer(_) | Word::Unknown(_) | Word::Silence(_) => Ok(false),
        }
    }

    /// Decides whether a machine that starts with its host does. Returns whether that is settled.
    fn decide(&self, wanted: &Replicate, ended: Option<Ended>, asking: &mut Asking) -> Result<bool, ProviderError> {
        let vm = match self.tools.hypervisor.by_name(&wanted.machine) {
            Err(ProviderError::NoSuchMachine { .. }) => return self.decided(),
            other => other?,
        };
        if vm.active()? || self.fenced(wanted)? {
            return self.decided();
        }
        let (item, machine) = (&wanted.item, &wanted.machine);
        match self.greet(wanted) {
            Word::Welcome => {
                tracing::info!(%item, machine, "the target takes points of this generation: the machine starts with its host");
                self.start(&vm, wanted)
            }
            Word::RunsThere(why, newest) => self.quarantine(wanted, &why, newest),
            Word::Unknown(why) => {
                tracing::warn!(%item, machine, why, "the target knows nothing of the item: the machine starts with its host");
                self.start(&vm, wanted)
            }
            Word::Newer(why) => {
                asking.silent_since = None;
                self.waits(wanted, &why);
                if ended.is_none() {
                    self.end(Ended::Superseded)?;
                }
                Ok(false)
            }
            Word::Silence(why) if ended == Some(Ended::Superseded) => {
                self.waits(wanted, &format!("{why}; a failover was under way when the target was last heard"));
                Ok(false)
            }
            Word::Silence(why) => {
                let since = *asking.silent_since.get_or_insert_with(Instant::now);
                if since.elapsed() < self.tools.autostart_patience {
                    self.waits(wanted, &why);
                    return Ok(false);
                }
                tracing::error!(
                    %item, machine, why, silent_s = since.elapsed().as_secs(),
                    "the target does not say whether the machine was started there: it starts here. If it was failed over, it runs twice \
                     until the target is reached again; then the one here is ended"
                );
                self.start(&vm, wanted)
            }
        }
    }

    fn waits(&self, wanted: &Replicate, why: &str) {
        tracing::warn!(item = %wanted.item, machine = wanted.machine, why, "the machine waits for the target's word before it starts with its host");
        let mut control = self.lock();
        if control.record.ended.is_none() {
            control.status.phase = Phase::Paused;
        }
        control.status.last_error = Some(format!("the machine does not start with its host before the target has answered: {why}"));
    }

    fn decided(&self) -> Result<bool, ProviderError> {
        self.autostart().decided()?;
        self.lock().status.last_error = None;
        Ok(true)
    }

    fn fenced(&self, wanted: &Replicate) -> Result<bool, ProviderError> {
        Ok(fenced::in_force(&fenced::dir(self.tools.guard.state_dir(), &wanted.item))?.is_some())
    }

    /// Starts the machine, paused at first: a fence may have come meanwhile.
    fn start(&self, vm: &Vm, wanted: &Replicate) -> Result<bool, ProviderError> {
        self.tools.guard.still_writer()?;
        if self.fenced(wanted)? || !self.autostart().held()? {
            return self.decided();
        }
        self.tools.guard.about_to("create");
        vm.start_paused()?;
        let started = vm.processes()?;
        if self.tools.guard.still_writer().is_err() || self.fenced(wanted)? {
            vm.power_off(&started)?;
            return self.decided();
        }
        if vm.power()? == PowerState::Paused {
            vm.resume()?;
        }
        self.decided()
    }

    /// Ends the machine for good: it runs elsewhere.
    pub(super) fn quarantine(&self, wanted: &Replicate, why: &ProviderError, newest: Generation) -> Result<bool, ProviderError> {
        quarantine::note(&self.tools, &self.autostart(), &wanted.item, &wanted.machine, newest)?;
        let ended = self.lock().record.ended;
        if ended != Some(Ended::Stopped) {
            self.end(Ended::Quarantined)?;
        }
        tracing::error!(
            item = %wanted.item, machine = wanted.machine, %why,
            "the machine here is ended and kept from starting: it was started elsewhere while this site was away. What it has written \
             since its last point stays on its disks and is replaced when the item comes back here"
        );
        quarantine::quarantine(&self.tools, &self.autostart(), &wanted.item, &wanted.machine, newest)?;
        Ok(self.is_off(Some(why.to_string())))
    }

    /// Shows that the quarantine is complete.
    fn is_off(&self, why: Option<String>) -> bool {
        let mut control = self.lock();
        if control.record.ended == Some(Ended::Quarantined) {
            (control.status.phase, control.status.last_error) = (Phase::Quarantined, why);
        }
        true
    }

    /// Goes on with what an earlier agent has begun.
    fn finish_quarantine(&self, wanted: &Replicate) -> Result<bool, ProviderError> {
        let fence = fenced::in_force(&fenced::dir(self.tools.guard.state_dir(), &wanted.item))?;
        let Some(begun) = fence.filter(|f| f.proof.is_none()) else { return Ok(self.is_off(None)) };
        quarantine::quarantine(&self.tools, &self.autostart(), &wanted.item, &wanted.machine, begun.token.generation())?;
        Ok(self.is_off(None))
    }
}
