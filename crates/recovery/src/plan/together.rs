//! Plans and replication groups: machines that share moments are recovered from them, and stand in one group of a plan.

use std::collections::BTreeMap;

use super::spec::Plan;
use crate::{GroupName, ItemRecord, PointChoice};

/// Why a plan and its machines' replication groups do not fit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotTogether {
    /// A common moment is asked for, and no machine has one.
    #[error("{choice} is for plans with a replication group, and no machine of plan {plan} is in one; choose latest, latest-processed or latest-app-consistent, or make a group with `switchback group create`")]
    NoGroup {
        /// What was asked for.
        choice: PointChoice,
        /// Which plan.
        plan: crate::PlanName,
    },
    /// They would be prepared apart.
    #[error("replication group {replicated} is spread over groups {one} and {other} of plan {plan}: its machines must stand in one, since they are recovered from one moment")]
    Spread {
        /// Which replication group.
        replicated: GroupName,
        /// Which plan.
        plan: crate::PlanName,
        /// One of the plan's groups.
        one: String,
        /// Another.
        other: String,
    },
}

/// Whether the plan fits the replication groups that its machines are in, recovered from such points.
///
/// # Errors
/// The first thing that does not.
pub fn together(plan: &Plan, choice: PointChoice, records: &[ItemRecord]) -> Result<(), NotTogether> {
    let of = |item: &crate::ItemName| records.iter().find(|record| record.name == *item).and_then(|record| record.group.as_ref());
    let mut places: BTreeMap<&GroupName, &str> = BTreeMap::new();
    for group in &plan.groups {
        for replicated in group.items.iter().filter_map(|member| of(&member.item)) {
            let one = *places.entry(replicated.name()).or_insert(&group.name);
            if one != group.name {
                let (one, other) = (one.to_owned(), group.name.clone());
                return Err(NotTogether::Spread { replicated: replicated.name().clone(), plan: plan.name.clone(), one, other });
            }
        }
    }
    if choice.is_of_many() && places.is_empty() { Err(NotTogether::NoGroup { choice, plan: plan.name.clone() }) } else { Ok(()) }
}
