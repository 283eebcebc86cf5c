//! Recovery points of an item, and which of them a choice means.
//!
//! Invariants: 1. Points are ordered by their number; clocks are shown, never compared. 2. A withdrawn point is never
//! chosen. 3. A choice that names a point gets that point or none.

use std::{fmt, str::FromStr};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{Consistency, Generation, GroupName, InvalidId, ItemName, PointId};

/// The moment at which all machines of a replication group stood still: points that carry the same one belong together.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct GroupMoment {
    /// Which group.
    pub group: GroupName,
    /// Made by the source's agent, never again; compared for equality only.
    pub moment: String,
}

/// The state of an item at a time, as the target's journal lists it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecoveryPoint {
    /// Its number within the item.
    pub id: PointId,
    /// What it promises about the software.
    pub consistency: Consistency,
    /// By the source's clock; to be shown, not compared.
    pub taken_at: DateTime<Utc>,
    /// Which grant of the item it was taken under.
    pub generation: Generation,
    /// Bytes received for it, after zeroes and holes were left out.
    pub size_bytes: u64,
    /// The moment that it shares with points of other machines; `None` if it was taken alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<GroupMoment>,
    /// Whether retention leaves it alone.
    #[serde(default)]
    pub pinned: bool,
    /// Whether it was given up by a commit; it is listed and never offered.
    #[serde(default)]
    pub withdrawn: bool,
}

/// Which point to recover from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum PointChoice {
    /// What was sent is processed first, into one more point if there is anything: shortest loss.
    Latest,
    /// The last one that is complete at the target: shortest recovery time.
    LatestProcessed,
    /// The last one that was taken with quiet applications.
    LatestAppConsistent,
    /// In a plan: machines of a replication group at their last common moment, all others at their last processed point.
    LatestMultiVmProcessed,
    /// The same, app-consistent.
    LatestMultiVmAppConsistent,
    /// This one and no other.
    Exact(PointId),
}

impl PointChoice {
    /// Whether what it means for a machine follows from the points of others.
    #[must_use]
    pub fn is_of_many(self) -> bool {
        matches!(self, PointChoice::LatestMultiVmProcessed | PointChoice::LatestMultiVmAppConsistent)
    }
}

/// Why no point can be recovered from.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoPoint {
    /// There are none at all.
    #[error("the item has no recovery point")]
    None,
    /// There are points, but none with quiet applications.
    #[error("none of the {points} recovery points is app-consistent")]
    NoAppConsistent {
        /// How many there are.
        points: usize,
    },
    /// The named one does not exist.
    #[error("there is no recovery point {id}; the first is {first}, the last {last}")]
    Unknown {
        /// The one asked for.
        id: PointId,
        /// Lowest number that can be chosen.
        first: PointId,
        /// Highest number that can be chosen.
        last: PointId,
    },
    /// The named one was given up by a commit.
    #[error("recovery point {id} was withdrawn by a commit")]
    Withdrawn {
        /// The one asked for.
        id: PointId,
    },
    /// A common moment is meant for many machines, and only one was given.
    #[error("{choice} is for plans with a replication group; for one machine choose latest, latest-processed, latest-app-consistent or a number")]
    NeedsPlan {
        /// What was asked for.
        choice: PointChoice,
    },
    /// The machines of a group have no moment in common.
    #[error("the machines of replication group {group} have no {wanted}recovery point in common ({})", counts(.common))]
    NoCommon {
        /// Which group.
        group: GroupName,
        /// `app-consistent ` or nothing.
        wanted: &'static str,
        /// How many points of the group each of them has.
        common: Vec<(ItemName, usize)>,
    },
}

fn counts(points: &[(ItemName, usize)]) -> String {
    points.iter().map(|(item, count)| format!("{item}: {count}")).collect::<Vec<_>>().join(", ")
}

/// The point that `choice` means among `points`, which may come in any order.
///
/// # Errors
/// None of them is meant.
pub fn resolve(points: &[RecoveryPoint], choice: PointChoice) -> Result<PointId, NoPoint> {
    if let PointChoice::Exact(id) = choice
        && points.iter().any(|point| point.id == id && point.withdrawn)
    {
        return Err(NoPoint::Withdrawn { id });
    }
    let offered: Vec<&RecoveryPoint> = points.iter().filter(|point| !point.withdrawn).collect();
    let ids = || offered.iter().map(|point| point.id);
    let (Some(first), Some(last)) = (ids().min(), ids().max()) else {
        return Err(NoPoint::None);
    };
    match choice {
        PointChoice::Latest | PointChoice::LatestProcessed => Ok(last),
        PointChoice::LatestMultiVmProcessed | PointChoice::LatestMultiVmAppConsistent => Err(NoPoint::NeedsPlan { choice }),
        PointChoice::LatestAppConsistent => {
            let quiet = offered.iter().filter(|point| point.consistency == Consistency::App);
            quiet.map(|point| point.id).max().ok_or(NoPoint::NoAppConsistent { points: offered.len() })
        }
        PointChoice::Exact(id) if ids().any(|known| known == id) => Ok(id),
        PointChoice::Exact(id) => Err(NoPoint::Unknown { id, first, last }),
    }
}

/// The points of the last moment that all members of `group` have in common, with quiet applications everywhere if `consistency` asks
/// for that. Members' points may come in any order.
///
/// # Errors
/// There is no such moment.
pub fn common_points(group: &GroupName, members: &[(ItemName, Vec<RecoveryPoint>)], consistency: Consistency) -> Result<Vec<(ItemName, PointId)>, NoPoint> {
    let offered = |points: &[RecoveryPoint]| -> Vec<(PointId, String)> {
        let fits = |point: &&RecoveryPoint| !point.withdrawn && point.consistency >= consistency;
        let of_group = points.iter().filter(fits).filter_map(|p| p.group.as_ref().filter(|g| g.group == *group).map(|g| (p.id, g.moment.clone())));
        let mut of_group: Vec<_> = of_group.collect();
        of_group.sort_unstable();
        of_group
    };
    let all: Vec<(&ItemName, Vec<(PointId, String)>)> = members.iter().map(|(item, points)| (item, offered(points))).collect();
    let at = |moment: &str| -> Option<Vec<(ItemName, PointId)>> {
        let of = |(item, points): &(&ItemName, Vec<(PointId, String)>)| {
            points.iter().rev().find(|(_, m)| m == moment).map(|(id, _)| ((*item).clone(), *id))
        };
        all.iter().map(of).collect()
    };
    let mut newest_first = all.first().into_iter().flat_map(|(_, points)| points.iter().rev());
    newest_first.find_map(|(_, moment)| at(moment)).ok_or_else(|| NoPoint::NoCommon {
        group: group.clone(),
        wanted: if consistency == Consistency::App { "app-consistent " } else { "" },
        common: all.iter().map(|(item, points)| ((*item).clone(), points.len())).collect(),
    })
}

/// A text that names no choice.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not latest, latest-processed, latest-app-consistent, latest-multi-vm-processed, latest-multi-vm-app-consistent or the number of a point")]
pub struct InvalidChoice {
    /// What was given.
    pub text: String,
    /// Why it is no number.
    pub source: InvalidId,
}

impl FromStr for PointChoice {
    type Err = InvalidChoice;
    fn from_str(text: &str) -> Result<Self, InvalidChoice> {
        match text {
            "latest" => Ok(PointChoice::Latest),
            "latest-processed" => Ok(PointChoice::LatestProcessed),
            "latest-app-consistent" => Ok(PointChoice::LatestAppConsistent),
            "latest-multi-vm-processed" => Ok(PointChoice::LatestMultiVmProcessed),
            "latest-multi-vm-app-consistent" => Ok(PointChoice::LatestMultiVmAppConsistent),
            _ => text
                .parse()
                .map(PointChoice::Exact)
                .map_err(|source| InvalidChoice { text: text.to_owned(), source }),
        }
    }
}

impl fmt::Display for PointChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PointChoice::Latest => f.write_str("latest"),
            PointChoice::LatestMultiVmProcessed => f.write_str("latest-multi-vm-processed"),
            PointChoice::LatestMultiVmAppConsistent => f.write_str("latest-multi-vm-app-consistent"),
            PointChoice::LatestProcessed => f.write_str("latest-processed"),
            PointChoice::LatestAppConsistent => f.write_str("latest-app-consistent"),
            PointChoice::Exact(id) => id.fmt(f),
        }
    }
}

impl TryFrom<String> for PointChoice {
    type Error = InvalidChoice;
    fn try_from(text: String) -> Result<Self, InvalidChoice> {
        text.parse()
    }
}

impl From<PointChoice> for String {
    fn from(choice: PointChoice) -> String {
        choice.to_string()
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails where its sentence does not hold")]
mod tests {
    use super::*;

    fn point(id: u64, consistency: Consistency) -> RecoveryPoint {
        RecoveryPoint {
            id: PointId(id),
            consistency,
            taken_at: DateTime::UNIX_EPOCH,
            generation: Generation { era: 1, grant_epoch: 1 },
            size_bytes: 0,
            group: None,
            pinned: false,
            withdrawn: false,
        }
    }

    #[test]
    fn the_latest_is_the_highest_number_whatever_the_clock_says() {
        let mut points = [point(2, Consistency::Crash), point(10, Consistency::Crash), point(9, Consistency::App)];
        points[1].taken_at = DateTime::UNIX_EPOCH - chrono::TimeDelta::hours(1);
        assert_eq!(resolve(&points, PointChoice::LatestProcessed), Ok(PointId(10)));
        assert_eq!(resolve(&points, PointChoice::LatestAppConsistent), Ok(PointId(9)));
    }

    #[test]
    fn a_named_point_is_that_point_or_none() {
        let mut points = [point(2, Consistency::Crash), point(3, Consistency::Crash)];
        assert_eq!(resolve(&points, PointChoice::Exact(PointId(2))), Ok(PointId(2)));
        assert_eq!(
            resolve(&points, PointChoice::Exact(PointId(7))),
            Err(NoPoint::Unknown { id: PointId(7), first: PointId(2), last: PointId(3) })
        );
        points[1].withdrawn = true;
        assert_eq!(resolve(&points, PointChoice::Exact(PointId(3))), Err(NoPoint::Withdrawn { id: PointId(3) }));
        assert_eq!(resolve(&points, PointChoice::LatestProcessed), Ok(PointId(2)));
    }

    #[test]
    fn without_points_there_is_nothing_to_choose() {
        assert_eq!(resolve(&[], PointChoice::Exact(PointId(1))), Err(NoPoint::None));
        let points = [point(1, Consistency::Crash)];
        assert_eq!(resolve(&points, PointChoice::LatestAppConsistent), Err(NoPoint::NoAppConsistent { points: 1 }));
    }

    #[test]
    fn a_group_is_recovered_at_the_last_moment_that_all_its_machines_have() {
        let group: GroupName = "shop".parse().unwrap();
        let at = |id: u64, consistency, moment: &str| {
            let group = Some(GroupMoment { group: group.clone(), moment: moment.to_owned() });
            RecoveryPoint { group, ..point(id, consistency) }
        };
        let (app, crash) = (Consistency::App, Consistency::Crash);
        let db1 = vec![at(4, app, "m1"), at(5, crash, "m2"), at(6, crash, "m3"), point(7, app)];
        let mut db2 = vec![at(11, crash, "m2"), at(10, app, "m1"), point(12, crash)];
        let members = |db2: &[RecoveryPoint]| [("db1".parse().unwrap(), db1.clone()), ("db2".parse().unwrap(), db2.to_vec())];
        let numbers = |found: Result<Vec<(ItemName, PointId)>, NoPoint>| found.unwrap().into_iter().map(|(_, id)| id.0).collect::<Vec<_>>();
        assert_eq!(numbers(common_points(&group, &members(&db2), crash)), [5, 11]);
        assert_eq!(numbers(common_points(&group, &members(&db2), app)), [4, 10]);
        db2[1].withdrawn = true;
        let none = common_points(&group, &members(&db2), app).unwrap_err().to_string();
        assert_eq!(none, "the machines of replication group shop have no app-consistent recovery point in common (db1: 1, db2: 0)");
    }

    #[test]
    fn a_choice_reads_back_from_its_string_form() {
        let words = ["latest", "latest-processed", "latest-app-consistent", "latest-multi-vm-processed", "latest-multi-vm-app-consistent", "17"];
        for text in words {
            assert_eq!(text.parse::<PointChoice>().unwrap().to_string(), text);
        }
        assert!("newest".parse::<PointChoice>().is_err() && "0".parse::<PointChoice>().is_err());
    }
}
