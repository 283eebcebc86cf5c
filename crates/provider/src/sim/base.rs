//! The old machine of an item as the base of its replica.
//!
//! ```text
//!   known to the hypervisor, off ──adopt──▶ base ──drop_replica──▶ known again, off      a user's machine
//!   known or retired, off ─────────adopt──▶ base ──commit, drop──▶ gone                  one that a recovery made
//!                                             └──drop without a point──▶ as before, off
//! ```
//!
//! Invariant: a machine is adopted only while it is off, and a user's only if it is fenced here as well.

use recovery::{Generation, ItemName};

use super::{
    machine::{Origin, SimMachine, shape},
    state::{SimBase, SiteState},
};
use crate::{Base, Machine, PowerState, PrepareReplica, ProviderError};

/// Takes the old machine, if one is wanted.
pub(super) fn adopt(site: &mut SiteState, wanted: &PrepareReplica) -> Result<Option<SimBase>, ProviderError> {
    if wanted.base == Base::Empty {
        return Ok(None);
    }
    let item = &wanted.item;
    let older = site.all_recovered(item).rev().find(|(generation, r)| *generation < wanted.generation && r.started.is_some());
    let base = match older.map(|(generation, r)| (generation, r.name.clone())) {
        Some((generation, name)) => recovered(site, item, generation, &name, &wanted.machine)?,
        None => original(site, item, &wanted.machine)?,
    };
    Ok(Some(base))
}

/// As it would be recovered: with the name and the definition that the old machine has at this site.
pub(super) fn machine(wanted: &Machine, base: Option<&SimBase>) -> Machine {
    let Some(base) = base else { return wanted.clone() };
    let old = base.machine.describe(&base.name);
    Machine { name: old.name, definition: old.definition, ..wanted.clone() }
}

fn recovered(
    site: &mut SiteState,
    item: &ItemName,
    generation: Generation,
    name: &str,
    wanted: &Machine,
) -> Result<SimBase, ProviderError> {
    let none = || ProviderError::NoOldMachine { item: item.clone(), detail: format!("the machine {name} of {generation} is gone") };
    if !site.recovered(item, generation)?.standalone {
        let detail = format!("the machine {name} of {generation} still needs points");
        return Err(ProviderError::NoOldMachine { item: item.clone(), detail });
    }
    fits(item, name, site.made(item, generation).ok_or_else(none)?, wanted)?;
    let mut made = site.recovered.remove(&(item.clone(), generation)).ok_or_else(none)?;
    let origin = Origin::Recovered { item: item.clone(), generation };
    let machine = made.held.take().or_else(|| site.take(name, &origin)).ok_or_else(none)?;
    Ok(SimBase { name: name.to_owned(), machine, made: Some((generation, made)) })
}

fn original(site: &mut SiteState, item: &ItemName, wanted: &Machine) -> Result<SimBase, ProviderError> {
    let none = |detail: &str| ProviderError::NoOldMachine { item: item.clone(), detail: detail.to_owned() };
    let fenced = site.fences.get(item).map(|f| (f.proof.machine.clone(), &f.uuid));
    let there = fenced.and_then(|(name, uuid)| Some((site.machines.get(&name).filter(|m| m.uuid == *uuid)?, name)));
    let Some((machine, name)) = there else {
        // Replicated from here once, and nobody has fenced it since.
        let source = site.loops.get(item).filter(|l| site.machines.contains_key(&l.wanted.machine));
        let machine = source.ok_or_else(|| none("no machine of it was ever fenced here"))?.wanted.machine.clone();
        let detail = "no fence is in force".to_owned();
        return Err(ProviderError::NotFenced { item: item.clone(), machine, detail });
    };
    fits(item, &name, machine, wanted)?;
    let machine = site.machines.remove(&name).ok_or_else(|| none("it is gone"))?;
    Ok(SimBase { name, machine, made: None })
}

/// Refuses a machine that may write, or that has other disks.
fn fits(item: &ItemName, name: &str, old: &SimMachine, wanted: &Machine) -> Result<(), ProviderError> {
    if old.power != PowerState::Off || old.autostart {
        let state = if old.autostart { "it would start with its host" } else { "it is not off" };
        return Err(ProviderError::NotFenced { item: item.clone(), machine: name.to_owned(), detail: state.to_owned() });
    }
    if shape(&old.disks) != shape(&wanted.disks) {
        let reason = "the disks of the old machine are not those of the machine".to_owned();
        return Err(ProviderError::ReplicaMismatch { item: item.clone(), reason });
    }
    Ok(())
}
