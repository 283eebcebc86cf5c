//! How data gets home: onto the old machine's disks or into a new machine, while the machine runs or while it is off.

use chrono::TimeDelta;

use super::Profile;
use crate::{Location, Sync};

/// From when on most of a disk is taken to have changed.
pub const MOST_HAS_CHANGED: TimeDelta = TimeDelta::days(30);

/// What is sent home.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// What differs from the disks that are there.
    Changes,
    Everything,
}

/// Where an item can go: to its old machine, if that is still there.
#[must_use]
pub fn location(old_machine_exists: bool) -> Location {
    if old_machine_exists { Location::Original } else { Location::Alternate }
}

/// What is sent there.
#[must_use]
pub fn sent(location: Location) -> Sent {
    match location {
        Location::Original => Sent::Changes,
        Location::Alternate => Sent::Everything,
    }
}

/// Whether the machine at the primary site is made by reprotect.
#[must_use]
pub fn made_by_reprotect(location: Location) -> bool {
    location == Location::Alternate
}

/// A part of bringing data home.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Phase {
    pub what: &'static str,
    /// Whether the machine at the recovery site runs meanwhile.
    pub runs: bool,
    /// Whether both sides are compared by digests, so that only what differs is sent.
    pub compares: bool,
}

/// What happens, in order.
#[must_use]
pub fn phases(sync: Sync) -> Vec<Phase> {
    match sync {
        Sync::BeforeFailover => vec![
            Phase { what: "a point of the running machine is copied to the primary site", runs: true, compares: true },
            Phase { what: "the machine is shut down, the last changes are sent, and it is started at the primary site", runs: false, compares: true },
        ],
        Sync::DuringFailover => vec![Phase { what: "the machine is shut down, its disks are copied whole, and it is started at the primary site", runs: false, compares: false }],
    }
}

/// What is known of an item that is away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Away {
    /// For so long it has been running at the recovery site.
    pub ran_for: TimeDelta,
    pub location: Location,
}

/// The way to copy that is recommended, and why; `None` where a profile has only one way.
///
/// A machine that was deleted at home is named by two rules that disagree: the one about its absence recommends to copy during the failover,
/// the one about another location, which is the same thing, to copy before. By default it is the latter, since the machine is then away from its
/// users for the shortest time; `for_deleted` overrides that.
#[must_use]
pub fn recommended(profile: Profile, away: Away, for_deleted: Option<Sync>) -> Option<(Sync, &'static str)> {
    match profile {
        Profile::Vmware | Profile::Physical => return None, // what is not replicated back can't go home
        Profile::Kvm | Profile::Hyperv => {}
    }
    Some(match away.location {
        Location::Alternate => match for_deleted.unwrap_or(Sync::BeforeFailover) {
            Sync::BeforeFailover => (Sync::BeforeFailover, "there is no machine at home: it is made and filled while the item runs"),
            Sync::DuringFailover => (Sync::DuringFailover, "there is no machine at home, and it was asked for to copy everything at once"),
        },
        Location::Original if away.ran_for >= MOST_HAS_CHANGED => {
            (Sync::DuringFailover, "it has been away for a month or more: most of the disks has changed, and comparing them would take longer")
        }
        Location::Original => (Sync::BeforeFailover, "the machine is off for the last changes only"),
    })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails where its sentence does not hold")]
mod tests {
    use super::*;

    fn advised(location: Location, days: i64, for_deleted: Option<Sync>) -> Sync {
        recommended(Profile::Hyperv, Away { ran_for: TimeDelta::days(days), location }, for_deleted).unwrap().0
    }

    #[test]
    fn rule_43_to_the_original_location_only_changes_are_sent() {
        assert_eq!(location(true), Location::Original);
        assert_eq!(sent(Location::Original), Sent::Changes);
        assert!(!made_by_reprotect(Location::Original));
    }

    #[test]
    fn rule_44_where_the_machine_is_gone_reprotect_makes_it_and_everything_is_sent() {
        assert_eq!(location(false), Location::Alternate);
        assert_eq!(sent(Location::Alternate), Sent::Everything);
        assert!(made_by_reprotect(Location::Alternate));
    }

    #[test]
    fn rule_49_before_the_failover_a_point_is_copied_while_the_machine_runs_and_then_the_last_changes() {
        let phases = phases(Sync::BeforeFailover);
        assert_eq!(phases.iter().map(|phase| phase.runs).collect::<Vec<_>>(), [true, false]);
        assert!(phases[1].what.contains("last changes"));
    }

    #[test]
    fn rule_50_during_the_failover_everything_is_copied_without_comparing() {
        let phases = phases(Sync::DuringFailover);
        assert_eq!(phases.iter().map(|phase| (phase.runs, phase.compares)).collect::<Vec<_>>(), [(false, false)]);
    }

    #[test]
    fn rule_50_it_is_recommended_from_a_month_away_on() {
        assert_eq!([29, 30].map(|days| advised(Location::Original, days, None)), [Sync::BeforeFailover, Sync::DuringFailover]);
    }

    #[test]
    fn rule_51_to_the_original_location_either_way_can_be_chosen() {
        for sync in [Sync::BeforeFailover, Sync::DuringFailover] {
            assert!(!phases(sync).is_empty());
        }
        let away = Away { ran_for: TimeDelta::days(1), location: Location::Original };
        assert!(recommended(Profile::Hyperv, away, None).is_some() && recommended(Profile::Vmware, away, None).is_none());
    }

    #[test]
    fn rule_52_to_another_location_copying_before_the_failover_is_recommended() {
        assert_eq!(advised(Location::Alternate, 1, None), Sync::BeforeFailover);
    }

    #[test]
    fn decision_b_for_a_deleted_machine_it_is_copied_before_unless_somebody_wants_it_otherwise() {
        assert_eq!([1, 400].map(|days| advised(Location::Alternate, days, None)), [Sync::BeforeFailover; 2]);
        assert_eq!(advised(Location::Alternate, 1, Some(Sync::DuringFailover)), Sync::DuringFailover);
    }
}
