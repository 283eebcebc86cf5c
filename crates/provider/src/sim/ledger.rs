//! What was done to the outside world, counted by the world itself.
//!
//! A key says *which* effect: the same one asked for again finds its work done and counts as a repeat. `applied` above 1 for a
//! key is a fault of whoever called.

use std::collections::BTreeMap;

use recovery::{Generation, ItemName, PointId, SiteName};
use serde::{Deserialize, Serialize};

use super::Op;
use crate::Pin;

/// Which effect.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct EffectKey {
    pub site: SiteName,
    pub item: ItemName,
    pub op: Op,
    /// Of the objects concerned.
    pub generation: Generation,
    pub point: Option<PointId>,
    /// Of what is named beside the point.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pin: Option<Pin>,
}

/// How often.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Calls that reached the site, whatever came of them. What may be called at most once is judged by this.
    pub calls: u64,
    /// Calls that changed the world.
    pub applied: u64,
    /// Calls that found the effect there already.
    pub repeats: u64,
    /// Calls that were refused and changed nothing.
    pub refused: u64,
}

/// All effects of a world.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ledger {
    entries: BTreeMap<EffectKey, Entry>,
}

impl Ledger {
    pub(super) fn entry(&mut self, key: EffectKey) -> &mut Entry {
        self.entries.entry(key).or_default()
    }

    /// Every effect with its counts, ordered by key.
    pub fn iter(&self) -> impl Iterator<Item = (&EffectKey, &Entry)> {
        self.entries.iter()
    }

    /// Effects that changed the world more than once.
    #[must_use]
    pub fn applied_more_than_once(&self) -> Vec<EffectKey> {
        self.entries.iter().filter(|(_, e)| e.applied > 1).map(|(key, _)| key.clone()).collect()
    }

    /// Counts of one kind of effect on an item at a site, over all generations and points.
    #[must_use]
    pub fn total(&self, site: &SiteName, item: &ItemName, op: Op) -> Entry {
        let of_kind = self.entries.iter().filter(|(k, _)| k.site == *site && k.item == *item && k.op == op);
        of_kind.fold(Entry::default(), |sum, (_, e)| Entry {
            calls: sum.calls + e.calls,
            applied: sum.applied + e.applied,
            repeats: sum.repeats + e.repeats,
            refused: sum.refused + e.refused,
        })
    }
}
