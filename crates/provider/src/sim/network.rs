//! Which machine is powered on to which network, and since when.
//!
//! Written by the world itself whenever that changes, so that nothing which was there for a moment only can be missed.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use recovery::SiteName;

use super::state::SiteState;
use crate::PowerState;

/// A running machine on a network.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct OnNetwork {
    pub site: SiteName,
    pub machine: String,
    pub network: String,
    /// Whether others can reach it there: it is no copy for a test.
    pub production: bool,
}

/// What was powered on at once, from a time on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoweredOn {
    pub since: DateTime<Utc>,
    pub machines: BTreeSet<OnNetwork>,
}

/// All changes so far, oldest first.
#[derive(Debug, Default, Clone)]
pub(super) struct NetworkLog {
    pub(super) changes: Vec<PoweredOn>,
    /// Nothing is noted.
    pub(super) off: bool,
}

impl NetworkLog {
    pub(super) fn note<'a>(&mut self, sites: impl Iterator<Item = (&'a SiteName, &'a SiteState)>, since: DateTime<Utc>) {
        if self.off {
            return;
        }
        let mut machines = BTreeSet::new();
        for (site, state) in sites {
            for (name, m) in state.machines.iter().filter(|(_, m)| m.power == PowerState::Running) {
                let of = |network: &String| OnNetwork { site: site.clone(), machine: name.clone(), network: network.clone(), production: !m.is_copy() };
                machines.extend(m.networks.iter().map(of));
            }
        }
        if self.changes.last().is_none_or(|last| last.machines != machines) {
            self.changes.push(PoweredOn { since, machines });
        }
    }
}
