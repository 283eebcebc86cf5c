//! What becomes of a machine whose site was away: it is started, or quarantined.
//!
//! ```text
//!   host boots ─▶ ask the target ─┬─ takes points ──────────────────▶ start
//!                                 ├─ runs there ────────────────────▶ quarantine
//!                                 ├─ a failover is under way ───────▶ ask again
//!                                 └─ nobody answers for the patience ▶ start
//! ```

use chrono::{DateTime, Utc};
use recovery::{ItemName, SiteName};

use super::{
    replication::Step,
    state::{SiteState, State},
    stream::{self, Refusal},
};
use crate::{AUTOSTART_PATIENCE, Phase, PowerState, ProviderError};

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
    let failed = match stream::greet(state, here, &wanted) {
        Ok(_) => None,
        Err(Refusal::RunsThere(error)) => return quarantine(state, here, item, &error),
        Err(Refusal::Superseded(_)) => return Step::Superseded,
        Err(Refusal::Unreachable(why)) => Some(why),
    };
    if let Some(why) = failed.filter(|_| waited < AUTOSTART_PATIENCE.as_secs().cast_signed()) {
        return Step::Failed(why);
    }
    if let Some(site) = state.sites.get_mut(here) {
        if let Some(l) = site.loops.get_mut(item) {
            l.booted_at = None;
        }
        if let Some(m) = site.machines.get_mut(&wanted.machine) {
            m.power = PowerState::Running;
        }
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
