//! What becomes of a machine whose site was away: it is started, or quarantined.
//!
//! ```text
//!   host boots ─▶ ask the target ─┬─ takes points ──────────────────▶ start
//!                                 ├─ runs there ────────────────────▶ quarantine
//!                                 ├─ a failover is under way ───────▶ ask again
//!                                 └─ nobody answers for the patience ▶ start
//! ```
//!
//! A machine that runs already, or that was fenced before it was decided, is left as it is.

use chrono::{DateTime, Utc};
use recovery::{ItemName, SiteName};

use super::{
    replication::Step,
    state::{SiteState, State},
    stream::{self, Refusal},
};
use crate::{AUTOSTART_PATIENCE, Phase, PowerState, ProviderError, Replicate};

/// The host is up again: machines that start with it do, but for those that may run elsewhere.
pub(super) fn host(site: &mut SiteState, now: DateTime<Utc>) {
    for (name, machine) in site.machines.iter_mut().filter(|(_, m)| m.autostart && m.power == PowerState::Off) {
        match site.loops.values_mut().find(|l| l.wanted.machine == *name && !l.ended()) {
            Some(l) => l.booted_at = Some(now),
            None => machine.power = PowerState::Running,
        }
    }
}

/// Decides about a machine that waits for its start.
pub(super) fn decide(state: &mut State, here: &SiteName, item: &ItemName, now: DateTime<Utc>) -> Step {
    let Some(l) = state.sites.get(here).and_then(|s| s.loops.get(item)) else { return Step::NotReplicating };
    let waited = l.booted_at.map_or(0, |booted| (now - booted).num_seconds());
    let wanted = l.wanted.clone();
    if settled(state, here, &wanted) {
        return decided(state, here, item);
    }
    let failed = match stream::greet(state, here, &wanted) {
        Ok(_) => None,
        Err(Refusal::RunsThere(error)) => return quarantine(state, here, item, &error),
        Err(Refusal::Superseded(_)) => return Step::Superseded,
        Err(Refusal::Unreachable(why)) => Some(why),
    };
    if let Some(why) = failed.filter(|_| waited < AUTOSTART_PATIENCE.as_secs().cast_signed()) {
        return Step::Failed(why);
    }
    if let Some(m) = state.sites.get_mut(here).and_then(|site| site.machines.get_mut(&wanted.machine)) {
        m.power = PowerState::Running;
    }
    decided(state, here, item)
}

/// Whether somebody else has decided about the machine: it runs, or is fenced, or is gone.
fn settled(state: &State, here: &SiteName, wanted: &Replicate) -> bool {
    let Some(site) = state.sites.get(here) else { return true };
    let Some(machine) = site.machines.get(&wanted.machine) else { return true };
    machine.power != PowerState::Off || site.fences.get(&wanted.item).is_some_and(|fence| fence.uuid == machine.uuid)
}

fn decided(state: &mut State, here: &SiteName, item: &ItemName) -> Step {
    if let Some(l) = state.sites.get_mut(here).and_then(|site| site.loops.get_mut(item)) {
        l.booted_at = None;
    }
    Step::Paused
}

/// Ends the machine and keeps it from starting.
pub(super) fn quarantine(state: &mut State, here: &SiteName, item: &ItemName, why: &ProviderError) -> Step {
    if let Some(site) = state.sites.get_mut(here)
        && let Some(l) = site.loops.get_mut(item)
    {
        l.end(Phase::Quarantined);
        l.status.last_error = Some(why.to_string());
        if let Some(m) = site.machines.get_mut(&l.wanted.machine) {
            m.end();
            m.autostart = false;
        }
    }
    Step::Quarantined
}
