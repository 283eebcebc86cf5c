//! What a source's agent remembers of a replication group: when moments are due, which there were, and which are kept.
//!
//! ```text
//!   due ─▶ all members there? ─▶ all stand still ─▶ taken(moment) ─▶ each member's point carries it, and which moments are kept
//!              │ no: failed(why)                        │
//!              └─▶ each goes on alone                   └─▶ acknowledged by every target: it is common
//! ```
//!
//! **Which moments are kept** is decided here, once, for all members: every point that is sent, of a moment or not, names the moments
//! to be kept: its target prunes no point of those, and those of all others first (`retention`). So targets need not talk to each other; one that hears nothing for
//! a while goes on with what it heard last. Kept are the moment that was taken last, since it may become common, the newest common one,
//! the newest common app-consistent one if such are asked for, and others, spread over the window as points are. One that is not common
//! when the next is taken never will be, and is given up.
//!
//! Invariants: 1. The newest common moment is kept until there is a newer common one, however old it is. 2. What was common stays so
//! when members come and go.

use std::{collections::BTreeSet, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use recovery::{Consistency, Group, GroupMoment, GroupName, GroupStatus, ItemName, LastMoment};
use serde::{Deserialize, Serialize};

/// The format that this build writes.
const VERSION: u32 = 1;

/// A moment, as the source remembers it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Taken {
    moment: String,
    taken_at: DateTime<Utc>,
    consistency: Consistency,
    pause_ms: u32,
    /// Members whose targets have its point.
    acknowledged: BTreeSet<ItemName>,
    /// All of them have, or had.
    common: bool,
}

/// A group's memory at the site that its members are replicated from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupLog {
    version: u32,
    group: Group,
    /// Those that are kept, oldest first.
    moments: Vec<Taken>,
    /// How many were taken.
    count: u64,
    tried_at: Option<DateTime<Utc>>,
    app_tried_at: Option<DateTime<Utc>>,
    why_none: Option<String>,
    app_error: Option<String>,
}

/// What the source says of the moments of an item's group, with each of the item's points.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptMoments {
    pub group: GroupName,
    /// Their points stay; those of other moments of the group go.
    pub moments: BTreeSet<String>,
}

impl KeptMoments {
    /// Whether a point of that moment is to stay; `None` if it is of another group, about which nothing is said.
    #[must_use]
    pub fn keeps(&self, at: &GroupMoment) -> Option<bool> {
        (at.group == self.group).then(|| self.moments.contains(&at.moment))
    }
}

/// What a moment was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewMoment {
    /// Never given before, at this or another site.
    pub moment: String,
    pub taken_at: DateTime<Utc>,
    pub consistency: Consistency,
    /// The longest of any machine.
    pub pause_ms: u32,
}

impl GroupLog {
    /// Nothing is remembered yet.
    #[must_use]
    pub fn new(group: Group) -> Self {
        Self { version: VERSION, group, moments: vec![], count: 0, tried_at: None, app_tried_at: None, why_none: None, app_error: None }
    }

    /// Whether this build can read it.
    #[must_use]
    pub fn known_version(&self) -> bool {
        self.version <= VERSION
    }

    /// As the newest member was told.
    #[must_use]
    pub fn group(&self) -> &Group {
        &self.group
    }

    /// The group was changed; what there was stays.
    pub fn redefine(&mut self, group: &Group) {
        if self.group != *group {
            (self.group, self.tried_at) = (group.clone(), None);
        }
    }

    /// How long until the next moment is to be tried.
    #[must_use]
    pub fn due_in(&self, now: DateTime<Utc>) -> Duration {
        let interval = TimeDelta::seconds(self.group.interval_s().into());
        // A clock that was put back delays no moment by more than an interval.
        let next = self.tried_at.filter(|tried| *tried <= now).map_or(now, |tried| tried + interval);
        (next - now).to_std().unwrap_or_default()
    }

    /// Lets the next moment be due at once: what kept the last one from coming about may be over.
    pub fn try_again(&mut self) {
        if self.why_none.is_some() {
            self.tried_at = None;
        }
    }

    /// Whether the next moment is to be app-consistent: the one after it would come too late.
    #[must_use]
    pub fn app_due(&self, now: DateTime<Utc>) -> bool {
        let Some(every_s) = self.group.app_consistent_interval_s() else { return false };
        let within = TimeDelta::seconds(i64::from(every_s) - i64::from(self.group.interval_s()));
        self.app_tried_at.is_none_or(|tried| now - tried > within)
    }

    /// There was no common moment.
    pub fn failed(&mut self, why: String, now: DateTime<Utc>) {
        (self.tried_at, self.why_none) = (Some(now), Some(why));
    }

    /// There was one. `not_app` says why it is not app-consistent although it was to be.
    pub fn taken(&mut self, new: NewMoment, was_app_due: bool, not_app: Option<String>) -> GroupMoment {
        let NewMoment { moment, taken_at, consistency, pause_ms } = new;
        (self.tried_at, self.why_none) = (Some(taken_at), None);
        if was_app_due {
            (self.app_tried_at, self.app_error) = (Some(taken_at), not_app);
        }
        self.count += 1;
        self.moments.retain(|m| m.common);
        self.moments.push(Taken { moment: moment.clone(), taken_at, consistency, pause_ms, acknowledged: BTreeSet::new(), common: false });
        self.thin(taken_at);
        GroupMoment { group: self.group.name().clone(), moment }
    }

    /// A member's target has the point of a moment. Returns whether that has made it common.
    pub fn acknowledged(&mut self, item: &ItemName, moment: &str) -> bool {
        let members = self.group.members();
        let Some(m) = self.moments.iter_mut().find(|m| m.moment == moment && !m.common) else { return false };
        m.acknowledged.insert(item.clone());
        m.common = members.is_subset(&m.acknowledged);
        m.common
    }

    /// What each target is to be told.
    #[must_use]
    pub fn kept(&self) -> KeptMoments {
        KeptMoments { group: self.group.name().clone(), moments: self.moments.iter().map(|m| m.moment.clone()).collect() }
    }

    /// For those who ask.
    #[must_use]
    pub fn status(&self) -> GroupStatus {
        let last = self.moments.iter().rev().find(|m| m.common);
        GroupStatus {
            group: self.group.name().clone(),
            last: last.map(|m| LastMoment {
                moment: m.moment.clone(),
                taken_at: m.taken_at,
                consistency: m.consistency,
                pause_ms: m.pause_ms,
            }),
            moments: self.count,
            longest_pause_ms: self.moments.iter().map(|m| m.pause_ms).max(),
            why_none: self.why_none.clone(),
            app_error: self.app_error.clone(),
        }
    }

    /// Gives moments up until the group's numbers are met.
    fn thin(&mut self, now: DateTime<Utc>) {
        let keep = usize::try_from(self.group.keep_moments()).unwrap_or(usize::MAX);
        let window = TimeDelta::seconds(i64::try_from(self.group.window_s()).unwrap_or(i64::MAX));
        while let Some(at) = self.expired(now, window).or_else(|| self.least_worth(now).filter(|_| self.moments.len() > keep)) {
            self.moments.remove(at);
        }
    }

    fn expired(&self, now: DateTime<Utc>, window: TimeDelta) -> Option<usize> {
        (0..self.moments.len()).find(|&at| self.spare(at) && now - self.moments[at].taken_at > window)
    }

    /// A moment is worth as much as the gap that its loss would leave, seen from its age.
    fn least_worth(&self, now: DateTime<Utc>) -> Option<usize> {
        let age_s = |at: usize| (now - self.moments[at].taken_at).as_seconds_f64().max(0.0);
        let worth = |at: usize| {
            let older = at.checked_sub(1).map_or(f64::INFINITY, age_s);
            (older - age_s(at + 1)) / (age_s(at) + f64::from(self.group.interval_s()))
        };
        let spare = (0..self.moments.len().saturating_sub(1)).filter(|&at| self.spare(at));
        spare.min_by(|&a, &b| worth(a).total_cmp(&worth(b)))
    }

    /// Whether nothing depends on it.
    fn spare(&self, at: usize) -> bool {
        let newest = |wanted: &dyn Fn(&Taken) -> bool| self.moments.iter().rposition(wanted);
        let app = self.group.app_consistent_interval_s().and_then(|_| newest(&|m| m.common && m.consistency == Consistency::App));
        let needed = [self.moments.len().checked_sub(1), newest(&|m| m.common), app];
        !needed.contains(&Some(at))
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails where its sentence does not hold")]
mod tests {
    use super::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::seconds(seconds)
    }

    fn log(keep: u32, window_s: u64) -> GroupLog {
        let members = ["a", "b"].iter().map(|item| item.parse().unwrap()).collect();
        GroupLog::new(Group::new("shop".parse().unwrap(), members, 10, keep, window_s).unwrap().with_app_consistent(Some(100)).unwrap())
    }

    /// Takes a moment, which these members' targets acknowledge.
    fn take(log: &mut GroupLog, seconds: i64, consistency: Consistency, by: &[&str]) {
        let new = NewMoment { moment: format!("m{seconds}"), taken_at: at(seconds), consistency, pause_ms: 50 };
        let taken = log.taken(new, consistency == Consistency::App, None);
        for item in by {
            log.acknowledged(&item.parse().unwrap(), &taken.moment);
        }
    }

    fn kept(log: &GroupLog) -> Vec<String> {
        log.moments.iter().map(|m| m.moment.clone()).collect()
    }

    #[test]
    fn the_newest_common_moment_is_kept_until_there_is_a_newer_common_one() {
        let mut log = log(2, 60);
        take(&mut log, 10, Consistency::Crash, &["a", "b"]);
        for seconds in [20, 30, 4000] {
            take(&mut log, seconds, Consistency::Crash, &["b"]);
            assert_eq!(kept(&log), ["m10".to_owned(), format!("m{seconds}")]);
            assert_eq!(log.status().last.unwrap().moment, "m10");
        }
        take(&mut log, 4010, Consistency::Crash, &["a", "b"]);
        take(&mut log, 4020, Consistency::Crash, &[]);
        assert_eq!(kept(&log), ["m4010", "m4020"]);
    }

    #[test]
    fn the_newest_app_consistent_moment_is_kept_and_others_are_spread_over_the_window() {
        let mut log = log(6, 3600);
        take(&mut log, 10, Consistency::App, &["a", "b"]);
        for seconds in 2..=100 {
            take(&mut log, seconds * 10, Consistency::Crash, &["a", "b"]);
        }
        let left = kept(&log);
        assert_eq!((left.len(), left[0].as_str(), left[5].as_str()), (6, "m10", "m1000"));
        let ages: Vec<i64> = log.moments.iter().rev().map(|m| (at(1000) - m.taken_at).num_seconds()).collect();
        assert!(ages.windows(3).all(|a| a[2] - a[1] >= a[1] - a[0]), "gaps grow with age: {ages:?}");
    }

    #[test]
    fn a_moment_is_due_an_interval_after_the_last_try_and_again_when_what_was_wrong_is_over() {
        let mut log = log(2, 60);
        assert_eq!(log.due_in(at(0)), Duration::ZERO);
        log.failed("b is off".to_owned(), at(5));
        assert_eq!(log.due_in(at(7)), Duration::from_secs(8));
        assert_eq!(log.due_in(at(0)), Duration::ZERO, "a clock that was put back delays nothing");
        assert_eq!(log.status().why_none.unwrap(), "b is off");
        log.try_again();
        assert_eq!(log.due_in(at(7)), Duration::ZERO);
        take(&mut log, 8, Consistency::Crash, &[]);
        log.try_again();
        assert_eq!((log.due_in(at(8)), log.status().why_none), (Duration::from_secs(10), None));
    }

    #[test]
    fn what_was_common_stays_so_when_members_come() {
        let mut log = log(2, 60);
        take(&mut log, 10, Consistency::Crash, &["a", "b"]);
        let members = ["a", "b", "c"].iter().map(|item| item.parse().unwrap()).collect();
        log.redefine(&log.group().clone().with_members(members).unwrap());
        take(&mut log, 20, Consistency::Crash, &["a", "b"]);
        assert_eq!((kept(&log).len(), log.status().last.unwrap().moment.as_str()), (2, "m10"));
        let text = serde_json::to_string(&log).unwrap();
        assert_eq!(serde_json::from_str::<GroupLog>(&text).unwrap(), log);
    }
}
