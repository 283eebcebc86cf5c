//! Why a fact does not fit.

use crate::{Generation, GroupName, Hold, ItemName, MainState, NotAllowed, Operation, Profile, Rest, SiteName};

/// Why a fact does not fit a record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FactRefused {
    /// The first fact of an item must register it.
    #[error("the item was never registered")]
    Unregistered,
    /// Registering again would change an item that is in use.
    #[error("item {name} is registered and {state}, not unprotected")]
    InUse {
        /// Which.
        name: ItemName,
        /// Its state.
        state: MainState,
    },
    /// The record is of another item.
    #[error("a fact of item {fact} was applied to item {record}")]
    OtherItem {
        /// Named by the fact.
        fact: ItemName,
        /// Named by the record.
        record: ItemName,
    },
    /// An item needs two different sites.
    #[error("item {name} would be replicated from site {site} to itself")]
    SameSite {
        /// Which.
        name: ItemName,
        /// The site.
        site: SiteName,
    },
    /// The state does not have that move.
    #[error("item {name} can't move")]
    Move {
        /// Which.
        name: ItemName,
        /// What was tried where.
        #[source]
        source: NotAllowed,
    },
    /// The platform does not have that operation there.
    #[error("item {name} is of profile {profile}, which has no {operation} there")]
    Profile {
        /// Which.
        name: ItemName,
        /// Whose rules.
        profile: Profile,
        /// What was tried.
        operation: Operation,
    },
    /// Points would go, and one of them is held.
    #[error("point {} of item {name} is held by {} since {} ({}), and {operation} would remove it; release it first", .hold.point, .hold.by, .hold.at.format("%Y-%m-%d %H:%M UTC"), .hold.reason)]
    Held {
        /// Which.
        name: ItemName,
        /// What is held.
        hold: Box<Hold>,
        /// What was tried.
        operation: Operation,
    },
    /// A machine that was recovered is the item only if a recovery had started one.
    #[error("item {name} can't be {rest}: no machine of it was ever started from a point")]
    NeverStarted {
        /// Which.
        name: ItemName,
        /// What was said to hold.
        rest: Rest,
    },
    /// An older grant would be recorded after a newer one.
    #[error("generation {granted} of item {name} is older than the recorded {recorded}")]
    Generation {
        /// Which.
        name: ItemName,
        /// The fact's.
        granted: Generation,
        /// The record's.
        recorded: Generation,
    },
    /// The site is not one of the item's.
    #[error("site {site} is none of the sites of item {name}")]
    Site {
        /// Which.
        name: ItemName,
        /// The site.
        site: SiteName,
    },
    /// An item is in one group at most.
    #[error("item {name} is in replication group {group} and can't join {asked}; an item is in one group at most")]
    InGroup {
        /// Which.
        name: ItemName,
        /// Which it is in.
        group: GroupName,
        /// Which it was to join.
        asked: GroupName,
    },
    /// The others of its group count on it.
    #[error("item {name} is in replication group {group}; take it out of that first")]
    StillGrouped {
        /// Which.
        name: ItemName,
        /// The group.
        group: GroupName,
    },
    /// The group does not name the item.
    #[error("replication group {group} has no member {name}")]
    NoMember {
        /// Which.
        name: ItemName,
        /// The group.
        group: GroupName,
    },
}
