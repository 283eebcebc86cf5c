//! Replication groups: items whose points are also taken at moments at which all their machines stand still.
//!
//! ```text
//!   db1  ──p──p──P──p──p──p──P──p──        p  at its own interval
//!   db2  ────p───P────p───p──P────p        P  at a common moment: both stood still while it was begun
//! ```
//!
//! Invariants: 1. A group that was built or read is within its limits. 2. An item is in one group at most; its record says in which.
//! 3. Two definitions are the same group only if they are equal: members that were told different ones have no common moment.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{Consistency, GroupName, ItemName, ItemRecord, MainState, ReplicationPolicy};

/// A group as its members' sources are told of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "GroupFields", into = "GroupFields")]
pub struct Group {
    name: GroupName,
    members: BTreeSet<ItemName>,
    interval_s: u32,
    app_consistent_interval_s: Option<u32>,
    max_pause_ms: u32,
    keep_moments: u32,
    window_s: u64,
}

/// Why a group can't be as it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidGroup {
    /// One machine is no group, and each more makes all others stand still for longer.
    #[error("a replication group of {members} items is outside {} to {}", Group::LEAST_MEMBERS, Group::MOST_MEMBERS)]
    Members { members: usize },
    /// Common moments can't be that often or that rare.
    #[error("common moments every {interval_s} s are outside 1 s to {} s", ReplicationPolicy::MAX_INTERVAL_S)]
    Interval { interval_s: u32 },
    /// Guests are not frozen more often than there are common moments, nor more rarely than once a day.
    #[error("app-consistent moments every {app_interval_s} s are outside {interval_s} s (one interval) to {} s", ReplicationPolicy::MAX_INTERVAL_S)]
    AppConsistent { app_interval_s: u32, interval_s: u32 },
    /// Too short for any host, or long enough to be taken for a failure.
    #[error("a longest pause of {max_pause_ms} ms is outside {} ms to {} ms", Group::MIN_PAUSE_MS, Group::MAX_PAUSE_MS)]
    Pause { max_pause_ms: u32 },
    /// Common moments must leave room for the points between them.
    #[error("keeping {moments} common moments is outside 1 to {}", Group::MOST_MOMENTS)]
    Moments { moments: u32 },
    /// The window holds less than one interval, or more than a year.
    #[error("a window of {window_s} s for common moments is outside {interval_s} s (one interval) to {} s", ReplicationPolicy::MAX_WINDOW_S)]
    Window { window_s: u64, interval_s: u32 },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct GroupFields {
    name: GroupName,
    members: BTreeSet<ItemName>,
    interval_s: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    app_consistent_interval_s: Option<u32>,
    max_pause_ms: u32,
    keep_moments: u32,
    window_s: u64,
}

impl Group {
    /// One machine shares its moments with nobody.
    pub const LEAST_MEMBERS: usize = 2;
    /// As many as Azure Site Recovery allows. All stand still until the slowest of them has begun its point.
    pub const MOST_MEMBERS: usize = 16;
    /// No hypervisor begins a backup in less.
    pub const MIN_PAUSE_MS: u32 = 20;
    /// Clusters take a member that is silent for longer for dead, and a guest is not frozen for longer either.
    pub const MAX_PAUSE_MS: u32 = 5_000;
    /// Half of the longest chain of points: the other half is for points between the moments.
    pub const MOST_MOMENTS: u32 = ReplicationPolicy::MAX_POINTS / 2;
    /// Twice what four small machines took in the laboratory.
    pub const PAUSE_MS: u32 = 200;
    /// Six ordinary points of the default policy.
    pub const INTERVAL_S: u32 = 30;

    /// A group with a common moment every `interval_s` seconds, of which `keep_moments` are kept for at most `window_s` seconds.
    ///
    /// # Errors
    /// A number is outside its limit.
    pub fn new(name: GroupName, members: BTreeSet<ItemName>, interval_s: u32, keep_moments: u32, window_s: u64) -> Result<Self, InvalidGroup> {
        if !(Self::LEAST_MEMBERS..=Self::MOST_MEMBERS).contains(&members.len()) {
            return Err(InvalidGroup::Members { members: members.len() });
        }
        if !(1..=ReplicationPolicy::MAX_INTERVAL_S).contains(&interval_s) {
            return Err(InvalidGroup::Interval { interval_s });
        }
        if !(1..=Self::MOST_MOMENTS).contains(&keep_moments) {
            return Err(InvalidGroup::Moments { moments: keep_moments });
        }
        if !(u64::from(interval_s)..=ReplicationPolicy::MAX_WINDOW_S).contains(&window_s) {
            return Err(InvalidGroup::Window { window_s, interval_s });
        }
        Ok(Self { name, members, interval_s, app_consistent_interval_s: None, max_pause_ms: Self::PAUSE_MS, keep_moments, window_s })
    }

    /// The same with an app-consistent moment at least every so many seconds; `None` takes none.
    ///
    /// # Errors
    /// More often than there are moments, or less than once a day.
    pub fn with_app_consistent(self, every_s: Option<u32>) -> Result<Self, InvalidGroup> {
        let interval_s = self.interval_s;
        if let Some(app_interval_s) = every_s.filter(|every| !(interval_s..=ReplicationPolicy::MAX_INTERVAL_S).contains(every)) {
            return Err(InvalidGroup::AppConsistent { app_interval_s, interval_s });
        }
        Ok(Self { app_consistent_interval_s: every_s, ..self })
    }

    /// The same with another longest pause: machines that stand still for longer are let go, and the moment does not count.
    ///
    /// # Errors
    /// It is outside its limits.
    pub fn with_max_pause(self, max_pause_ms: u32) -> Result<Self, InvalidGroup> {
        if !(Self::MIN_PAUSE_MS..=Self::MAX_PAUSE_MS).contains(&max_pause_ms) {
            return Err(InvalidGroup::Pause { max_pause_ms });
        }
        Ok(Self { max_pause_ms, ..self })
    }

    /// The same with other members.
    ///
    /// # Errors
    /// They are too few or too many.
    pub fn with_members(self, members: BTreeSet<ItemName>) -> Result<Self, InvalidGroup> {
        let Self { name, interval_s, app_consistent_interval_s, max_pause_ms, keep_moments, window_s, .. } = self;
        Self::new(name, members, interval_s, keep_moments, window_s)?.with_app_consistent(app_consistent_interval_s)?.with_max_pause(max_pause_ms)
    }

    /// How many common moments are kept where nobody says it: half of what the member with the fewest points keeps.
    #[must_use]
    pub fn moments_of<'a>(policies: impl Iterator<Item = &'a ReplicationPolicy>) -> u32 {
        policies.map(|policy| policy.retention_points() / 2).min().unwrap_or(1).clamp(1, Self::MOST_MOMENTS)
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &GroupName {
        &self.name
    }

    /// Who is in it.
    #[must_use]
    pub fn members(&self) -> &BTreeSet<ItemName> {
        &self.members
    }

    /// Seconds from one common moment to the next.
    #[must_use]
    pub fn interval_s(&self) -> u32 {
        self.interval_s
    }

    /// Seconds after which the next moment is to be app-consistent; `None` if none is.
    #[must_use]
    pub fn app_consistent_interval_s(&self) -> Option<u32> {
        self.app_consistent_interval_s
    }

    /// Longest time that a machine stands still for a moment.
    #[must_use]
    pub fn max_pause_ms(&self) -> u32 {
        self.max_pause_ms
    }

    /// Greatest number of common moments kept.
    #[must_use]
    pub fn keep_moments(&self) -> u32 {
        self.keep_moments
    }

    /// Seconds over which they are spread.
    #[must_use]
    pub fn window_s(&self) -> u64 {
        self.window_s
    }
}

impl TryFrom<GroupFields> for Group {
    type Error = InvalidGroup;
    fn try_from(f: GroupFields) -> Result<Self, InvalidGroup> {
        Self::new(f.name, f.members, f.interval_s, f.keep_moments, f.window_s)?
            .with_app_consistent(f.app_consistent_interval_s)?
            .with_max_pause(f.max_pause_ms)
    }
}

impl From<Group> for GroupFields {
    fn from(group: Group) -> Self {
        let Group { name, members, interval_s, app_consistent_interval_s, max_pause_ms, keep_moments, window_s } = group;
        Self { name, members, interval_s, app_consistent_interval_s, max_pause_ms, keep_moments, window_s }
    }
}

/// How a group goes, as the agent sees it that takes its moments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupStatus {
    /// Which.
    pub group: GroupName,
    /// The newest moment that all members' targets have acknowledged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<LastMoment>,
    /// Moments taken by that agent.
    pub moments: u64,
    /// Longest time that a machine stood still for one of those that are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub longest_pause_ms: Option<u32>,
    /// Why the last try came to no common moment; gone when one succeeds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why_none: Option<String>,
    /// Why the last try at an app-consistent moment became a crash-consistent one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app_error: Option<String>,
}

/// A common moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastMoment {
    /// Its name, which the points carry.
    pub moment: String,
    /// By the source's clock.
    pub taken_at: DateTime<Utc>,
    /// Of all its points.
    pub consistency: Consistency,
    /// How long a machine stood still for it; the longest of them.
    pub pause_ms: u32,
}

/// Why items can't be a group.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GroupRefused {
    /// Nobody has protected it.
    #[error("no item is called {item}")]
    Unknown {
        /// Which.
        item: ItemName,
    },
    /// It takes no points.
    #[error("item {item} is {state}; only a protected item can join replication group {group}")]
    NotProtected {
        /// Which.
        item: ItemName,
        /// Its state.
        state: MainState,
        /// Which it was to join.
        group: GroupName,
    },
    /// It shares moments with others already.
    #[error("item {item} is in replication group {other} already; an item is in one group at most")]
    InAnother {
        /// Which.
        item: ItemName,
        /// Which it is in.
        other: GroupName,
    },
    /// Machines of different sites can't be paused together.
    #[error("item {item} is replicated {sites}, and {than} {than_sites}; all items of a group have the same sites and direction")]
    OtherSites {
        /// Which.
        item: ItemName,
        /// From where to where.
        sites: String,
        /// Another one.
        than: ItemName,
        /// From where to where.
        than_sites: String,
    },
    /// Its common moments would leave no room for other points.
    #[error("item {item} keeps {points} points, and {moments} common moments leave less than two of them for others")]
    NoRoom {
        /// Which.
        item: ItemName,
        /// By its policy.
        points: u32,
        /// Of the group.
        moments: u32,
    },
}

/// Whether `records` can be the members of `group`. Those that are in it already may be in any state: they stay through a failover.
///
/// # Errors
/// The first reason why not, by the order of their names.
pub fn joinable(group: &Group, records: &[ItemRecord]) -> Result<(), GroupRefused> {
    let mut first: Option<&ItemRecord> = None;
    for item in group.members() {
        let record = records.iter().find(|record| record.name == *item).ok_or_else(|| GroupRefused::Unknown { item: item.clone() })?;
        let before = record.group.as_ref().map(Group::name);
        if let Some(other) = before.filter(|other| *other != group.name()) {
            return Err(GroupRefused::InAnother { item: item.clone(), other: other.clone() });
        }
        if record.state.main != MainState::Protected && before.is_none() {
            return Err(GroupRefused::NotProtected { item: item.clone(), state: record.state.main, group: group.name().clone() });
        }
        let points = record.policy.retention_points();
        // One moment beside the newest point is what any policy has room for.
        if group.keep_moments() > 1 && group.keep_moments() + 2 > points {
            return Err(GroupRefused::NoRoom { item: item.clone(), points, moments: group.keep_moments() });
        }
        // Who is in it may be under way between the sites; who joins must be where the others are.
        let other = first.filter(|other| (other.source_site(), other.target_site()) != (record.source_site(), record.target_site()));
        if let Some(than) = other.filter(|than| before.is_none() || than.group.is_none()) {
            let sites = |record: &ItemRecord| format!("from {} to {}", record.source_site(), record.target_site());
            return Err(GroupRefused::OtherSites { item: item.clone(), sites: sites(record), than: than.name.clone(), than_sites: sites(than) });
        }
        first = first.or(Some(record));
    }
    Ok(())
}

/// Why members have no common moments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Apart {
    /// In words.
    pub why: String,
    /// Whether somebody has to look: a failover that is under way, or that waits for its commit or reprotect, ends without that.
    pub amiss: bool,
}

/// What keeps the members from having common moments, as far as their records say; `None` if nothing does. Where a member runs is
/// where its machine is active: a commit that is missing is no other site.
#[must_use]
pub fn apart(group: &Group, records: &[ItemRecord]) -> Option<Apart> {
    let of_group: Vec<&ItemRecord> = group.members().iter().filter_map(|item| records.iter().find(|record| record.name == *item)).collect();
    let first = of_group.first()?;
    let resting: Vec<&&ItemRecord> = of_group.iter().filter(|record| record.state.main != MainState::Protected).collect();
    let states = resting.iter().map(|record| format!("{} is {}", record.name, record.state.main)).collect::<Vec<_>>().join(", ");
    if resting.iter().any(|record| record.state.main.busy_with().is_some()) {
        return Some(Apart { why: format!("{states}; there is none until all are protected"), amiss: false });
    }
    if let Some(other) = of_group.iter().find(|record| record.active_site() != first.active_site()) {
        let (a, at_a, b, at_b) = (&first.name, first.active_site(), &other.name, other.active_site());
        let why = format!("its members run at different sites: {a} at {at_a}, {b} at {at_b}; there is none until all run at one site and are protected there");
        return Some(Apart { why, amiss: true });
    }
    let waits = |record: &&&ItemRecord| matches!(record.state.main, MainState::CommitPending | MainState::Committed);
    match resting.iter().all(waits) {
        _ if resting.is_empty() => None,
        true => Some(Apart { why: format!("all run at {}, and {states}; there is none until all are committed and reprotected", first.active_site()), amiss: false }),
        false => Some(Apart { why: format!("{states}; there is none until all are protected"), amiss: true }),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails where its sentence does not hold")]
mod tests {
    use super::*;
    use crate::{Direction, Fact, Operation, Side, Step, fold};

    fn names(members: &[&str]) -> BTreeSet<ItemName> {
        members.iter().map(|item| item.parse().unwrap()).collect()
    }

    fn group(members: &[&str]) -> Group {
        Group::new("shop".parse().unwrap(), names(members), 30, 4, 3600).unwrap()
    }

    /// A protected item; reversed it is replicated from hamburg to berlin.
    fn item(name: &str, reversed: bool) -> ItemRecord {
        let (primary, recovery) = if reversed { ("hamburg", "berlin") } else { ("berlin", "hamburg") };
        let facts = [
            Fact::ItemRegistered {
                name: name.parse().unwrap(),
                primary: primary.parse().unwrap(),
                recovery: recovery.parse().unwrap(),
                machine: name.to_owned(),
                policy: ReplicationPolicy::default(),
                checks: vec![],
                profile: crate::Profile::default(),
            },
            Fact::Moved { step: Step::Begin { operation: Operation::Protect } },
            Fact::Moved { step: Step::Finish { operation: Operation::Protect } },
        ];
        fold(&facts).unwrap().unwrap()
    }

    #[test]
    fn a_group_outside_its_limits_is_refused() {
        let new = |members: usize, interval, keep, window| {
            let members = (0..members).map(|n| format!("m{n}").parse().unwrap()).collect();
            Group::new("shop".parse().unwrap(), members, interval, keep, window)
        };
        assert!(new(2, 30, 8, 3600).is_ok() && new(16, 1, 1, 1).is_ok());
        assert_eq!(new(1, 30, 4, 3600), Err(InvalidGroup::Members { members: 1 }));
        assert_eq!(new(17, 30, 4, 3600), Err(InvalidGroup::Members { members: 17 }));
        assert_eq!(new(2, 0, 4, 3600), Err(InvalidGroup::Interval { interval_s: 0 }));
        assert_eq!(new(2, 30, 9, 3600), Err(InvalidGroup::Moments { moments: 9 }));
        assert_eq!(new(2, 30, 4, 29), Err(InvalidGroup::Window { window_s: 29, interval_s: 30 }));
        let often = group(&["a", "b"]).with_app_consistent(Some(29));
        assert_eq!(often, Err(InvalidGroup::AppConsistent { app_interval_s: 29, interval_s: 30 }));
        assert_eq!(group(&["a", "b"]).with_max_pause(19), Err(InvalidGroup::Pause { max_pause_ms: 19 }));
    }

    #[test]
    fn a_group_read_from_json_is_checked() {
        let whole = group(&["db2", "db1"]).with_app_consistent(Some(3600)).unwrap().with_max_pause(500).unwrap();
        let text = serde_json::to_string(&whole).unwrap();
        assert_eq!(
            text,
            r#"{"name":"shop","members":["db1","db2"],"interval_s":30,"app_consistent_interval_s":3600,"max_pause_ms":500,"keep_moments":4,"window_s":3600}"#
        );
        assert_eq!(serde_json::from_str::<Group>(&text).unwrap(), whole);
        assert!(serde_json::from_str::<Group>(&text.replace("\"db2\"", "\"db1\"")).is_err());
    }

    #[test]
    fn items_that_can_not_share_a_moment_are_no_group() {
        let (db1, db2, away) = (item("db1", false), item("db2", false), item("db3", true));
        assert_eq!(joinable(&group(&["db1", "db2"]), &[db1.clone(), db2.clone()]), Ok(()));
        let refused = |members: &[&str], records: &[ItemRecord]| joinable(&group(members), records).unwrap_err().to_string();
        assert_eq!(refused(&["db1", "db9"], std::slice::from_ref(&db1)), "no item is called db9");
        assert_eq!(
            refused(&["db1", "db3"], &[db1.clone(), away]),
            "item db3 is replicated from hamburg to berlin, and db1 from berlin to hamburg; all items of a group have the same sites and direction"
        );
        let mut seeding = db2.clone();
        seeding.state.main = MainState::Seeding;
        assert_eq!(refused(&["db1", "db2"], &[db1.clone(), seeding]), "item db2 is seeding; only a protected item can join replication group shop");
        let mut taken = db2.clone();
        taken.group = Some(Group::new("bank".parse().unwrap(), names(&["db2", "db8"]), 30, 4, 3600).unwrap());
        assert_eq!(
            refused(&["db1", "db2"], &[db1.clone(), taken]),
            "item db2 is in replication group bank already; an item is in one group at most"
        );
        let mut few = db2;
        few.policy = ReplicationPolicy::new(5, 4, 3600, None).unwrap();
        assert_eq!(refused(&["db1", "db2"], &[db1, few]), "item db2 keeps 4 points, and 4 common moments leave less than two of them for others");
    }

    #[test]
    fn members_that_are_under_way_stay_and_have_no_common_moment() {
        let shop = group(&["db1", "db2"]);
        let member = |name, reversed| ItemRecord { group: Some(shop.clone()), ..item(name, reversed) };
        let (db1, db2, mut away) = (member("db1", false), member("db2", false), member("db2", true));
        assert_eq!(joinable(&shop, &[db1.clone(), away.clone()]), Ok(()));
        assert_eq!(apart(&shop, &[db1.clone(), db2]), None);
        let told = |why: &str, amiss| Some(Apart { why: why.to_owned(), amiss });
        assert_eq!(
            apart(&shop, &[db1.clone(), away.clone()]),
            told("its members run at different sites: db1 at berlin, db2 at hamburg; there is none until all run at one site and are protected there", true)
        );
        away.state.main = MainState::Reprotecting;
        assert_eq!(apart(&shop, &[db1.clone(), away]), told("db2 is reprotecting; there is none until all are protected", false));
        let mut broken = member("db2", false);
        broken.state.main = MainState::Failed { of: Operation::Resync, before: None };
        assert_eq!(apart(&shop, &[db1, broken]), told("db2 is failed(resync); there is none until all are protected", true));
    }

    #[test]
    fn members_that_run_at_one_site_are_not_apart_because_one_is_not_committed() {
        let shop = group(&["db1", "db2"]);
        let away = |name, main, direction| {
            let mut record = ItemRecord { group: Some(shop.clone()), ..item(name, false) };
            (record.state.main, record.state.active, record.state.direction) = (main, Side::Recovery, direction);
            record
        };
        let committed = away("db1", MainState::Committed, Direction::Reverse);
        let pending = away("db2", MainState::CommitPending, Direction::Forward);
        let why = "all run at hamburg, and db1 is committed, db2 is commit pending; there is none until all are committed and reprotected";
        assert_eq!(apart(&shop, &[committed.clone(), pending.clone()]), Some(Apart { why: why.to_owned(), amiss: false }));
        let home = ItemRecord { group: Some(shop.clone()), ..item("db1", false) };
        assert!(apart(&shop, &[home, pending]).unwrap().amiss, "half of a group has failed over");
        let protected = away("db2", MainState::Protected, Direction::Reverse);
        let why = "all run at hamburg, and db1 is committed; there is none until all are committed and reprotected";
        assert_eq!(apart(&shop, &[committed, protected]), Some(Apart { why: why.to_owned(), amiss: false }));
    }
}
