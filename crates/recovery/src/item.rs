//! A protected item as it is projected from its facts: what it is, where it runs, what state it is in.
//!
//! Invariants: 1. The record is written only by [`crate::apply`]. 2. It carries the version of its format; a reader refuses
//! a newer one instead of guessing. 3. `primary` and `recovery` never change; where the machine runs is `state.active`.

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Deserializer, Serialize, de};

use crate::{
    Check, Consistency, Direction, Generation, Group, ItemName, MainState, PointChoice, PointId, Profile, ReplicationPolicy, Rest, SiteName, profile::failback, span::Span,
};

/// One of an item's two sites.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// Where the item ran when it was first protected.
    Primary,
    /// The other one.
    Recovery,
}

/// What became of the machine that the item failed over from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OldMachine {
    /// There is none.
    None,
    /// It exists and does not run.
    Off,
    /// It came back and was made unable to do harm.
    Quarantined,
}

/// An isolated copy beside production.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TestFailover {
    /// There is none.
    None,
    /// It is being made.
    Running,
    /// It can be looked at.
    Ready,
    /// It is being removed.
    Cleaning,
    /// Making or removing it failed.
    Failed,
}

/// What a test failover made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TestCopy {
    /// Names its objects.
    pub generation: Generation,
    /// What it was made from.
    pub point: PointId,
    /// Where.
    pub site: SiteName,
    /// Since when it runs; `None` if it was not started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<DateTime<Utc>>,
    /// What was asked and answered, and how its network was seen to be isolated.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub evidence: Vec<String>,
    /// When it is removed if nobody has done that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<DateTime<Utc>>,
}

impl TestCopy {
    /// How long a copy stays that nobody removes, unless somebody says otherwise: two weeks.
    pub const STAYS: Span = Span::seconds(14 * 86_400);
    /// Longest that it may be told to stay: a copy of a quarter of a year ago tests nothing, and keeps a point from being pruned.
    pub const MAY_STAY: Span = Span::seconds(90 * 86_400);
    /// Shortest: somebody has to look at it.
    pub const MUST_STAY: Span = Span::seconds(10);
}

/// Whether both sides have to be compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resync {
    /// The change tracking is whole.
    None,
    /// It broke; the next point needs a comparison.
    Needed,
    /// The comparison is running.
    Running,
}

/// The main state of an item and what stands beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ItemState {
    /// What the item is doing.
    pub main: MainState,
    /// Where its machine runs.
    pub active: Side,
    /// Which way it is replicated.
    pub direction: Direction,
    /// The newest grant of its lock that was recorded.
    pub generation: Generation,
    /// The machine it failed over from.
    pub old_machine: OldMachine,
    /// The copy beside it.
    pub test_failover: TestFailover,
    /// Whether its sides have to be compared.
    pub resync: Resync,
    /// Whether a point is held: nothing that gives points up is begun.
    #[serde(default, skip_serializing_if = "is_false")]
    pub held: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the form that serde asks for")]
fn is_false(flag: &bool) -> bool {
    !flag
}

impl ItemState {
    /// Known, not replicated, running at its primary site.
    #[must_use]
    pub fn new() -> Self {
        Self {
            main: MainState::Unprotected,
            active: Side::Primary,
            direction: Direction::Forward,
            generation: Generation { era: 0, grant_epoch: 0 },
            old_machine: OldMachine::None,
            test_failover: TestFailover::None,
            resync: Resync::None,
            held: false,
        }
    }
}

impl Default for ItemState {
    fn default() -> Self {
        Self::new()
    }
}

/// One disk of a protected machine.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Disk {
    /// As the platform names it, such as `vda`.
    pub name: String,
    /// What the guest sees.
    pub size_bytes: u64,
}

/// The point that a failover recovered from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChosenPoint {
    /// What was asked for.
    pub requested: PointChoice,
    /// What was taken.
    pub point: PointId,
    /// What it promises.
    pub consistency: Consistency,
    /// By the source's clock.
    pub taken_at: DateTime<Utc>,
}

/// What a failover was asked for, before it was known what there is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestedPoint {
    /// Which point.
    pub choice: PointChoice,
    /// Whether the source was to be shut down first, and to send the rest.
    pub shut_down: bool,
    /// When.
    pub at: DateTime<Utc>,
}

/// A recovery point that somebody needs, whatever becomes of the item.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// Which.
    pub point: PointId,
    /// The site that keeps it.
    pub site: SiteName,
    /// Who.
    pub by: String,
    /// Why.
    pub reason: String,
    /// When.
    pub at: DateTime<Utc>,
}

/// That record and reality were found to disagree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contradiction {
    /// What was seen, in words.
    pub why: Vec<String>,
    /// When.
    pub at: DateTime<Utc>,
    /// The state as it was recorded, if nothing was under way.
    pub before: Option<Rest>,
}

/// A failover was given up without its source being given back: nobody could reach it. No machine was started in its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceLeft {
    /// Where.
    pub site: SiteName,
    /// What was tried and what stood in the way, in words.
    pub why: String,
    /// When.
    pub at: DateTime<Utc>,
}

impl SourceLeft {
    /// For people.
    #[must_use]
    pub fn told(&self, machine: &str) -> String {
        format!(
            "a failover was given up at {}, and {} could not be reached to give its source back: machine {machine} may be fenced there, or not \
             be replicated. That is made good when the site answers; a failover, with --accept-unfenced if need be, or an undo does not wait for it",
            self.at.format("%Y-%m-%d %H:%M:%S UTC"),
            self.site
        )
    }
}

/// Why the target was allowed to start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum Fence {
    /// The source was shown to be unable to write.
    Proven {
        /// What was seen, in words.
        evidence: String,
        /// When.
        at: DateTime<Utc>,
    },
    /// Nobody could tell, and somebody took it upon themselves.
    Unfenced {
        /// Who.
        by: String,
        /// Why.
        reason: String,
        /// When.
        at: DateTime<Utc>,
    },
}

/// Everything that is known of a protected item.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ItemRecord {
    /// Format of this record.
    #[serde(deserialize_with = "known_version")]
    pub version: u32,
    /// Its name.
    pub name: ItemName,
    /// Where it ran when it was first protected.
    pub primary: SiteName,
    /// The other site.
    pub recovery: SiteName,
    /// The name of its machine on the platform.
    pub machine: String,
    /// Its disks; empty until the source was asked.
    pub disks: Vec<Disk>,
    /// How it is replicated.
    pub policy: ReplicationPolicy,
    /// How the recovered machine is asked whether it serves.
    pub checks: Vec<Check>,
    /// Its states.
    pub state: ItemState,
    /// What the last failover recovered from.
    pub chosen: Option<ChosenPoint>,
    /// Why the last failover was allowed to start the target.
    pub fence: Option<Fence>,
    /// Points up to this one are given up.
    pub withdrawn_up_to: Option<PointId>,
    /// From the request of the last failover until the machine served.
    pub rto_actual_ms: Option<u64>,
    /// From the chosen point until the request of the last failover.
    pub rpo_actual_ms: Option<u64>,
    /// A machine of this generation may run at the target: a failover passed its point of no return, whatever came of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub powered_on: Option<Generation>,
    /// The generation of the recovery that made the machine which is the source now; `None` is the machine as it was before us.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovered_as: Option<Generation>,
    /// Since when it runs where a failover started it, by that site's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub running_since: Option<DateTime<Utc>>,
    /// The copy of a test failover.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test_copy: Option<TestCopy>,
    /// Which platform's rules it follows.
    #[serde(default, skip_serializing_if = "Profile::is_default")]
    pub profile: Profile,
    /// What the last failover was asked for; `chosen` is what came of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requested: Option<RequestedPoint>,
    /// The point that is held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<Hold>,
    /// Why it is in `reconcile`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contradiction: Option<Contradiction>,
    /// The replication group that it is in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<Group>,
    /// When it was taken off the list: there is no such item any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forgotten: Option<DateTime<Utc>>,
    /// Its source may be fenced by a failover that was given up. No machine was powered on since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_left: Option<SourceLeft>,
}

impl ItemRecord {
    /// The format that this build writes.
    pub const VERSION: u32 = 1;

    /// Whether there is such an item; not, once it was forgotten.
    #[must_use]
    pub fn is_known(&self) -> bool {
        self.forgotten.is_none()
    }

    /// The site where the machine runs.
    #[must_use]
    pub fn active_site(&self) -> &SiteName {
        self.site(self.state.active)
    }

    /// The site where the machine does not run.
    #[must_use]
    pub fn other_site(&self) -> &SiteName {
        self.site(match self.state.active {
            Side::Primary => Side::Recovery,
            Side::Recovery => Side::Primary,
        })
    }

    /// Whether the copy of a test failover has stayed as long as it was to.
    #[must_use]
    pub fn copy_has_expired(&self, now: DateTime<Utc>) -> bool {
        let expires_at = self.test_copy.as_ref().and_then(|copy| copy.expires_at);
        let removable = matches!(self.state.test_failover, TestFailover::Ready | TestFailover::Failed);
        removable && expires_at.is_some_and(|at| at <= now)
    }

    /// Whether such a copy is to be removed now, if its record changed last at `changed_at`: one whose removal has failed is tried again after
    /// as long again as it has been in vain, an hour at most.
    #[must_use]
    pub fn copy_is_due(&self, changed_at: DateTime<Utc>, now: DateTime<Utc>) -> bool {
        const LONGEST: TimeDelta = TimeDelta::hours(1);
        let expires_at = self.test_copy.as_ref().and_then(|copy| copy.expires_at);
        let failed = self.state.test_failover == TestFailover::Failed;
        let waits = expires_at.filter(|_| failed).map_or(TimeDelta::zero(), |at| (changed_at - at).clamp(TimeDelta::zero(), LONGEST));
        self.copy_has_expired(now) && now - changed_at >= waits
    }

    /// The generation of the machine that a failover has started.
    #[must_use]
    pub fn running_generation(&self) -> Generation {
        self.powered_on.unwrap_or(self.state.generation)
    }

    /// When the window closes in which another point may be chosen; `None` while there is nothing to choose.
    #[must_use]
    pub fn change_until(&self) -> Option<DateTime<Utc>> {
        if self.state.main.rest() != Some(Rest::CommitPending) {
            return None;
        }
        let failed_over_at = self.requested.as_ref().map(|requested| requested.at).or(self.running_since)?;
        Some(failed_over_at + self.change_window())
    }

    /// How long after a failover its point can be changed: as the policy says, else as the profile has it.
    #[must_use]
    pub fn change_window(&self) -> TimeDelta {
        let said = self.policy.change_window_s().and_then(|window_s| i64::try_from(window_s).ok());
        said.map_or_else(|| self.profile.change_window(), TimeDelta::seconds)
    }

    /// How it is replicated as it runs now: the way home of some profiles has a policy of its own.
    #[must_use]
    pub fn policy_in_force(&self) -> ReplicationPolicy {
        match failback::policy(self.profile) {
            Some(home) if self.state.direction == Direction::Reverse => home.of(&self.policy),
            Some(_) | None => self.policy.clone(),
        }
    }

    /// The site that data is replicated from.
    #[must_use]
    pub fn source_site(&self) -> &SiteName {
        match self.state.direction {
            Direction::Forward => &self.primary,
            Direction::Reverse => &self.recovery,
        }
    }

    /// The site that data is replicated to.
    #[must_use]
    pub fn target_site(&self) -> &SiteName {
        match self.state.direction {
            Direction::Forward => &self.recovery,
            Direction::Reverse => &self.primary,
        }
    }

    fn site(&self, side: Side) -> &SiteName {
        match side {
            Side::Primary => &self.primary,
            Side::Recovery => &self.recovery,
        }
    }
}

fn known_version<'de, D: Deserializer<'de>>(input: D) -> Result<u32, D::Error> {
    let version = u32::deserialize(input)?;
    if version > ItemRecord::VERSION {
        let known = ItemRecord::VERSION;
        return Err(de::Error::custom(format!("item record of format {version}, this build reads up to {known}")));
    }
    Ok(version)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails where its sentence does not hold")]
mod tests {
    use chrono::TimeDelta;

    use super::*;
    use crate::{Fact, Step, fold};

    #[test]
    fn a_removal_that_fails_again_and_again_is_tried_less_and_less_often() {
        let at = |s: i64| DateTime::UNIX_EPOCH + TimeDelta::seconds(s);
        let mut record = tested(Some(at(100)));
        assert!(!record.copy_is_due(at(0), at(99)) && record.copy_is_due(at(0), at(100)));
        record.state.test_failover = TestFailover::Failed;
        assert!(record.copy_is_due(at(50), at(100)), "what failed before that is no removal");
        let mut tries = vec![];
        let mut changed_at = at(50);
        for s in (100..20_000).step_by(10) {
            if record.copy_is_due(changed_at, at(s)) {
                // The try takes five seconds, and fails.
                changed_at = at(s + 5);
                tries.push(s);
            }
        }
        assert_eq!(tries, [100, 110, 130, 170, 250, 410, 730, 1_370, 2_650, 5_210, 8_820, 12_430, 16_040, 19_650]);
    }

    fn tested(expires_at: Option<DateTime<Utc>>) -> ItemRecord {
        let operation = crate::Operation::Protect;
        let copy = TestCopy {
            generation: Generation { era: 1, grant_epoch: 2 },
            point: PointId::FIRST,
            site: "hamburg".parse().unwrap(),
            since: None,
            evidence: vec![],
            expires_at,
        };
        let facts = [
            Fact::ItemRegistered {
                name: "db9".parse().unwrap(),
                primary: "berlin".parse().unwrap(),
                recovery: "hamburg".parse().unwrap(),
                machine: "db9".to_owned(),
                policy: ReplicationPolicy::default(),
                checks: vec![],
                profile: Profile::Kvm,
            },
            Fact::Moved { step: Step::Begin { operation } },
            Fact::Moved { step: Step::Finish { operation } },
            Fact::TestFailoverIs { test_failover: TestFailover::Ready, copy: Some(copy) },
        ];
        fold(&facts).unwrap().unwrap()
    }

    #[test]
    fn decision_a_a_copy_that_nobody_removes_goes_after_two_weeks_or_when_it_was_said() {
        assert_eq!(TestCopy::STAYS.to_string(), "14d");
        let at = DateTime::UNIX_EPOCH;
        let record = tested(Some(at));
        assert!(record.copy_has_expired(at) && !record.copy_has_expired(at - TimeDelta::seconds(1)));
        assert!(!tested(None).copy_has_expired(at), "made by a build that knew no time");
        let mut cleaning = record;
        cleaning.state.test_failover = TestFailover::Cleaning;
        assert!(!cleaning.copy_has_expired(at), "somebody removes it");
    }
}
