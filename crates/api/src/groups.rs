//! Replication groups, as they are asked for and shown.
//!
//! ```text
//!   GET  /v1/groups   GET /v1/groups/GROUP
//!   POST /v1/groups   POST /v1/groups/GROUP/change   POST /v1/groups/GROUP/remove   ─▶ 202 Accepted { run }
//! ```

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use recovery::{Consistency, Group, GroupName, GroupStatus, ItemName, PointId, SiteName};
use sdk::RunId;
use serde::{Deserialize, Serialize};

/// Makes a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupRequest {
    /// Its name.
    pub name: GroupName,
    /// Who is in it.
    pub items: BTreeSet<ItemName>,
    /// Its numbers.
    #[serde(default)]
    pub numbers: GroupNumbers,
}

/// Numbers of a group; what is left out stays as it is, or is as it is by default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupNumbers {
    /// Seconds from one common moment to the next.
    #[serde(default)]
    pub interval_s: Option<u32>,
    /// Seconds after which the next one is to be app-consistent; 0 takes none.
    #[serde(default)]
    pub app_consistent_interval_s: Option<u32>,
    /// Longest time that a machine stands still.
    #[serde(default)]
    pub max_pause_ms: Option<u32>,
    /// How many common moments are kept; half of what the member with the fewest points keeps by default.
    #[serde(default)]
    pub keep_moments: Option<u32>,
    /// Over how many seconds; the shortest window of any member by default.
    #[serde(default)]
    pub window_s: Option<u64>,
}

/// Changes a group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupChangeRequest {
    /// Who joins.
    #[serde(default)]
    pub add: BTreeSet<ItemName>,
    /// Who leaves.
    #[serde(default)]
    pub remove: BTreeSet<ItemName>,
    /// Its numbers.
    #[serde(default)]
    pub numbers: GroupNumbers,
}

/// A group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GroupView {
    /// As it was defined last.
    pub group: Group,
    /// Its members' records define it differently: it is being changed, or a change could not be put back.
    pub divided: bool,
    /// The run that changes it now.
    pub open_run: Option<RunId>,
    /// Its members.
    pub members: Vec<GroupMemberView>,
    /// The last moment that can be recovered from.
    pub last: Option<CommonView>,
    /// The last app-consistent one.
    pub last_app: Option<CommonView>,
    /// How it goes, as last reported by the agent that takes its moments.
    pub status: Option<GroupStatusView>,
    /// Why there is no common moment now; absent if there is one at each interval.
    pub why_none: Option<String>,
    /// What somebody has to look at, in words.
    pub alarms: Vec<String>,
    /// Since when it is defined so.
    pub updated_at: DateTime<Utc>,
}

/// A member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupMemberView {
    /// Which item.
    pub item: ItemName,
    /// Its main state in words.
    pub state: String,
    /// Where it is replicated from.
    pub source: SiteName,
    /// Where to.
    pub target: SiteName,
    /// How that goes, in a word; absent if nobody has reported.
    pub phase: Option<String>,
    /// The newest point that its target has acknowledged.
    pub last_point_taken_at: Option<DateTime<Utc>>,
    /// How many points of common moments its target offers.
    pub moments: u64,
}

/// A common moment, with each member's point.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommonView {
    /// Its name.
    pub moment: String,
    /// By the source's clock.
    pub taken_at: DateTime<Utc>,
    /// Of all its points.
    pub consistency: Consistency,
    /// Each member's.
    pub points: Vec<CommonPoint>,
}

/// One member's point of a common moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommonPoint {
    /// Whose.
    pub item: ItemName,
    /// Its number.
    pub point: PointId,
}

/// What an agent says of a group, and how old that is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupStatusView {
    /// Which site's.
    pub site: SiteName,
    /// What.
    pub status: GroupStatus,
    /// When, by the database's clock.
    pub reported_at: DateTime<Utc>,
}
