//! Recovery points of an item, and which of them a choice means.
//!
//! Invariants: 1. Points are ordered by their number; clocks are shown, never compared. 2. A withdrawn point is never
//! chosen. 3. A choice that names a point gets that point or none.

use std::{fmt, str::FromStr};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{Consistency, Generation, InvalidId, PointId};

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
    /// The last one that is complete at the target: shortest recovery time.
    LatestProcessed,
    /// The last one that was taken with quiet applications.
    LatestAppConsistent,
    /// This one and no other.
    Exact(PointId),
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
        PointChoice::LatestProcessed => Ok(last),
        PointChoice::LatestAppConsistent => {
            let quiet = offered.iter().filter(|point| point.consistency == Consistency::App);
            quiet.map(|point| point.id).max().ok_or(NoPoint::NoAppConsistent { points: offered.len() })
        }
        PointChoice::Exact(id) if ids().any(|known| known == id) => Ok(id),
        PointChoice::Exact(id) => Err(NoPoint::Unknown { id, first, last }),
    }
}

/// A text that names no choice.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not latest-processed, latest-app-consistent or the number of a point")]
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
            "latest-processed" => Ok(PointChoice::LatestProcessed),
            "latest-app-consistent" => Ok(PointChoice::LatestAppConsistent),
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
    fn a_choice_reads_back_from_its_string_form() {
        for text in ["latest-processed", "latest-app-consistent", "17"] {
            assert_eq!(text.parse::<PointChoice>().unwrap().to_string(), text);
        }
        assert!("latest".parse::<PointChoice>().is_err() && "0".parse::<PointChoice>().is_err());
    }
}
