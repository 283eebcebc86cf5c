//! The lab: libvirt sites on one machine, each behind its own network and mounts, joined by a network that can be cut.
//!
//!            ┌ netns …-sitea + mounts ┐       ┌ netns …-wan ┐       ┌ netns …-siteb + mounts ┐
//!   guest ── prod ─ libvirtd ─ 10.99.0.1 ───── brwan .254 ───── 10.99.0.2 ─ libvirtd ─ prod ── guest
//!                                                hq: the orchestrator
//!
//! Invariants: 1. Everything of a lab carries its prefix, which no other lab on the machine has. 2. A lab is registered
//! before its first namespace exists, so whatever is left behind can be found. 3. Taking down may be repeated, interrupted,
//! and run by two at once. 4. With an owner, the lab goes when its owner goes, however that happens. 5. A site sees neither
//! the headquarters' directory nor another site's.

mod accel;
pub(crate) mod command;
pub(crate) mod join;
pub(crate) mod machine;
pub(crate) mod net;
mod record;
mod site;
mod teardown;
pub(crate) mod wait;

use std::path::Path;

use anyhow::{Context, Result, bail};

pub(crate) use record::{Lab, Site};
pub(crate) use teardown::{down, down_all};

use crate::guest;

/// Addresses end at 10.99.0.N with N below this, and a machine has memory for few daemons.
const MOST_SITES: u8 = 8;

/// Builds a lab under an empty directory. On failure nothing of it remains.
pub(crate) fn up(dir: &Path, sites: u8, owner: Option<u32>) -> Result<Lab> {
    require_root()?;
    if !(1..=MOST_SITES).contains(&sites) {
        bail!("a lab has 1 to {MOST_SITES} sites, not {sites}");
    }
    let lab = Lab::create(dir, sites, guest::ready()?)?;
    match start(&lab, owner) {
        Ok(()) => Ok(lab),
        Err(error) => {
            down(&lab.dir).context("cannot clean up after the lab failed to start")?;
            Err(error)
        }
    }
}

fn start(lab: &Lab, owner: Option<u32>) -> Result<()> {
    if let Some(owner) = owner {
        teardown::watch_in_background(lab, owner)?;
    }
    net::build(lab)?;
    site::start_all(lab)
}

/// Namespaces, mounts and libvirt's system daemon need root.
fn require_root() -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!("the lab needs root (namespaces, mounts, a libvirt system daemon)");
    }
    Ok(())
}
