//! What the way home needs, which point it takes, and what that may cost.
//!
//! Invariants: 1. Nothing goes home without a point. 2. A point that is older than the last one loses what was written after it: how much
//! that is is said, and somebody agrees, before anything is touched.

use std::{collections::BTreeMap, fmt};

use chrono::{DateTime, TimeDelta, Utc};

use super::{
    Profile,
    choices::{Member, NoPlanPoints, plan_points},
};
use crate::{ItemName, NoPoint, PointChoice, PointId, RecoveryPoint, ReplicationPolicy, resolve, span::Span};

/// Something that must be there before anything can go home.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Needs {
    /// A process server at the recovery site that handles what is sent back.
    ProcessServer,
    /// VPN or `ExpressRoute` between the recovery network and the primary site.
    PrivateLine,
    /// The master target server at the primary site that receives; by default the one on the configuration server.
    MasterTarget,
    /// A master target of its own, for large volumes.
    OwnMasterTarget,
    /// The policy of the way home, which came with the forward policy.
    Policy,
    /// Replication went through a storage account; what went through managed disks can't go home.
    StorageAccount,
    /// Hosts or their VMM are connected to the recovery site.
    HostsConnected,
    /// Agents at both sites.
    Agents,
}

impl Needs {
    /// Whether it may be removed once everything is home.
    #[must_use]
    pub fn temporary(self) -> bool {
        self == Needs::ProcessServer
    }

    /// For people.
    #[must_use]
    pub fn says(self) -> &'static str {
        match self {
            Needs::ProcessServer => "a temporary process server at the recovery site; it may be deleted after the failback",
            Needs::PrivateLine => "a VPN or ExpressRoute between the recovery network and the primary site",
            Needs::MasterTarget => "the master target server on the configuration server",
            Needs::OwnMasterTarget => "a separate master target server, since volumes are large",
            Needs::Policy => "the failback policy that was made with the forward policy",
            Needs::StorageAccount => "replication through a storage account: machines replicated through managed disks can't go home",
            Needs::HostsConnected => "hosts, or their VMM, connected to the recovery site",
            Needs::Agents => "agents at both sites",
        }
    }
}

/// All that must be there. Under Hyper-V nothing has to be set up for it.
#[must_use]
pub fn needs(profile: Profile, large_volumes: bool) -> Vec<Needs> {
    match profile {
        Profile::Kvm => vec![Needs::Agents],
        Profile::Hyperv => vec![Needs::StorageAccount, Needs::HostsConnected],
        Profile::Vmware | Profile::Physical => {
            let master_target = if large_volumes { Needs::OwnMasterTarget } else { Needs::MasterTarget };
            vec![Needs::ProcessServer, Needs::PrivateLine, master_target, Needs::Policy]
        }
    }
}

/// What stands in the way: seen to be missing, or not looked at.
#[must_use]
pub fn missing(needs: &[Needs], observed: &BTreeMap<Needs, bool>) -> Vec<(Needs, Option<bool>)> {
    needs.iter().map(|need| (*need, observed.get(need).copied())).filter(|(_, seen)| *seen != Some(true)).collect()
}

/// How an item is replicated on its way home.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FailbackPolicy {
    /// A replica that is older than this is told of.
    pub rpo_threshold: Span,
    /// How long points are kept.
    pub retention: Span,
    /// From one app-consistent point to the next.
    pub app_consistent_every: Span,
    /// Whether anybody may change it.
    pub editable: bool,
    /// Whether it is made with the forward policy, and bound to the configuration server, without anybody asking.
    pub automatic: bool,
}

impl FailbackPolicy {
    /// The item's own policy with what is fixed on the way home.
    #[must_use]
    pub fn of(&self, own: &ReplicationPolicy) -> ReplicationPolicy {
        let seconds = |span: Span| u32::try_from(span.ms() / 1_000).unwrap_or(u32::MAX).max(own.interval_s());
        let kept = (self.retention.ms() / 1_000).max(own.interval_s().into());
        ReplicationPolicy::new(own.interval_s(), own.retention_points(), kept, own.bandwidth_bytes_per_s())
            .and_then(|policy| policy.with_app_consistent(Some(seconds(self.app_consistent_every))))
            .and_then(|policy| policy.with_rpo_threshold(Some(seconds(self.rpo_threshold))))
            .and_then(|policy| policy.with_change_window(own.change_window_s()))
            .unwrap_or_else(|_refused| own.clone()) // which is within all limits, and so is this
    }
}

/// The policy of the way home where it is not the item's own.
#[must_use]
pub fn policy(profile: Profile) -> Option<FailbackPolicy> {
    match profile {
        Profile::Kvm | Profile::Hyperv => None,
        Profile::Vmware | Profile::Physical => Some(FailbackPolicy {
            rpo_threshold: Span::seconds(15 * 60),
            retention: Span::seconds(24 * 3_600),
            app_consistent_every: Span::seconds(60 * 60),
            editable: false,
            automatic: true,
        }),
    }
}

/// The point that is recommended for the way home: the last one, crash-consistent.
pub const RECOMMENDED: PointChoice = PointChoice::Latest;

/// What is lost if an item goes home from a point that is not its last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loss {
    pub item: ItemName,
    pub point: PointId,
    /// By the source's clock.
    pub taken_at: DateTime<Utc>,
    /// Points that are newer than it.
    pub newer_points: usize,
    /// From it to now; nothing is known of what was written in that time, so all of it counts.
    pub written_for: TimeDelta,
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { item, point, taken_at, newer_points, written_for } = self;
        let seconds = written_for.num_seconds().max(0);
        write!(
            f,
            "item {item} would go home as it was at point {point}, taken {}: what was written in the {seconds} s since then, in {newer_points} newer \
             points and after them, would not be in it",
            taken_at.format("%Y-%m-%d %H:%M:%S UTC")
        )
    }
}

/// Where one item goes home from, and what that loses; nothing is lost by `latest`, which is the point that is made when it is off.
///
/// # Errors
/// It has no point, or not that one.
pub fn from_point(item: &ItemName, points: &[RecoveryPoint], choice: PointChoice, now: DateTime<Utc>) -> Result<Option<Loss>, NoPoint> {
    let newest = resolve(points, PointChoice::LatestProcessed)?;
    if choice == RECOMMENDED {
        return Ok(None);
    }
    let point = resolve(points, choice)?;
    let taken_at = points.iter().find(|p| p.id == point).map_or(now, |p| p.taken_at);
    let newer_points = points.iter().filter(|p| !p.withdrawn && p.id > point && p.id <= newest).count();
    Ok(Some(Loss { item: item.clone(), point, taken_at, newer_points, written_for: now - taken_at }))
}

/// Machines of a plan that have nothing to go home from: as long as there is one, none goes.
#[must_use]
pub fn without_a_point(members: &[Member]) -> Vec<ItemName> {
    let none = members.iter().filter(|member| member.points.iter().all(|point| point.withdrawn));
    none.map(|member| member.item.clone()).collect()
}

/// The app-consistent points from which the machines of a plan go home: each replication group from the one it has in common.
///
/// # Errors
/// A machine or group has none.
pub fn app_points_of_plan(members: &[Member]) -> Result<BTreeMap<ItemName, PointId>, NoPlanPoints> {
    let grouped = members.iter().any(|member| member.group.is_some());
    plan_points(if grouped { PointChoice::LatestMultiVmAppConsistent } else { PointChoice::LatestAppConsistent }, members)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails where its sentence does not hold")]
mod tests {
    use super::*;
    use crate::{
        Consistency, Direction, Generation, GroupMoment, ItemState, MainState, Operation, Side, allowed_operations,
        plan::Mode,
        profile::shutdown::{Outcome, goes_on},
    };

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::seconds(seconds)
    }

    fn point(id: u64, consistency: Consistency, moment: Option<&str>) -> RecoveryPoint {
        RecoveryPoint {
            id: PointId(id),
            consistency,
            taken_at: at(i64::try_from(id).unwrap() * 10),
            generation: Generation { era: 1, grant_epoch: 1 },
            size_bytes: 0,
            group: moment.map(|moment| GroupMoment { group: "shop".parse().unwrap(), moment: moment.to_owned() }),
            pinned: false,
            withdrawn: false,
        }
    }

    fn member(name: &str, points: Vec<RecoveryPoint>) -> Member {
        Member { item: name.parse().unwrap(), group: Some("shop".parse().unwrap()), points }
    }

    #[test]
    fn rule_35_nothing_goes_home_without_a_point_and_a_plan_only_if_all_its_machines_have_one() {
        let db = "db".parse().unwrap();
        assert_eq!(from_point(&db, &[], RECOMMENDED, at(0)), Err(NoPoint::None));
        let members = [member("db", vec![point(1, Consistency::Crash, None)]), member("web", vec![])];
        assert_eq!(without_a_point(&members), ["web".parse().unwrap()]);
        assert_eq!(without_a_point(&members[..1]), []);
    }

    #[test]
    fn rule_36_the_latest_point_is_recommended_and_loses_nothing() {
        assert_eq!(RECOMMENDED, PointChoice::Latest);
        assert_eq!(from_point(&"db".parse().unwrap(), &[point(1, Consistency::Crash, None)], RECOMMENDED, at(99)), Ok(None));
    }

    #[test]
    fn rule_37_an_app_consistent_point_loses_what_came_after_it_and_says_how_much() {
        let points = [point(1, Consistency::App, None), point(2, Consistency::Crash, None), point(3, Consistency::Crash, None)];
        let loss = from_point(&"db".parse().unwrap(), &points, PointChoice::LatestAppConsistent, at(45)).unwrap().unwrap();
        assert_eq!((loss.point, loss.newer_points, loss.written_for), (PointId(1), 2, TimeDelta::seconds(35)));
        assert_eq!(
            loss.to_string(),
            "item db would go home as it was at point 1, taken 1970-01-01 00:00:10 UTC: what was written in the 35 s since then, in 2 newer points and \
             after them, would not be in it"
        );
    }

    #[test]
    fn rule_37_each_replication_group_of_a_plan_goes_home_from_the_quiet_point_that_it_has_in_common() {
        let (app, crash) = (Consistency::App, Consistency::Crash);
        let db = member("db", vec![point(1, app, Some("m1")), point(2, app, Some("m2")), point(3, app, None)]);
        let web = member("web", vec![point(7, app, Some("m1")), point(8, crash, Some("m2"))]);
        let chosen: Vec<u64> = app_points_of_plan(&[db, web]).unwrap().into_values().map(|point| point.0).collect();
        assert_eq!(chosen, [1, 7]);
    }

    #[test]
    fn rule_39_a_temporary_process_server_is_needed_under_vmware_and_for_physical_servers() {
        for profile in [Profile::Vmware, Profile::Physical] {
            assert!(needs(profile, false).contains(&Needs::ProcessServer));
        }
        assert!(Needs::ProcessServer.temporary() && !Needs::PrivateLine.temporary());
    }

    #[test]
    fn rule_40_a_private_line_is_needed_under_vmware_and_for_physical_servers() {
        for profile in [Profile::Vmware, Profile::Physical] {
            assert!(needs(profile, false).contains(&Needs::PrivateLine));
        }
    }

    #[test]
    fn rule_41_large_volumes_need_a_master_target_of_their_own() {
        assert_eq!(needs(Profile::Vmware, false)[2], Needs::MasterTarget);
        assert_eq!(needs(Profile::Vmware, true)[2], Needs::OwnMasterTarget);
    }

    #[test]
    fn rule_42_the_failback_policy_has_its_values_and_nobody_edits_it() {
        for profile in [Profile::Vmware, Profile::Physical] {
            let policy = policy(profile).unwrap();
            let values = [policy.rpo_threshold, policy.retention, policy.app_consistent_every].map(|span| span.to_string());
            assert_eq!(values, ["15m", "1d", "1h"]);
            assert!(policy.automatic && !policy.editable);
            let own = ReplicationPolicy::new(5, 8, 3_600, Some(1 << 20)).unwrap().with_change_window(Some(7_200)).unwrap();
            let home = policy.of(&own);
            assert_eq!((home.rpo_threshold_s(), home.retention_window_s(), home.app_consistent_interval_s()), (Some(900), 86_400, Some(3_600)));
            assert_eq!((home.interval_s(), home.retention_points(), home.bandwidth_bytes_per_s(), home.change_window_s()), (5, 8, Some(1 << 20), Some(7_200)));
        }
    }

    #[test]
    fn rule_45_machines_under_hyperv_go_home_only_if_they_were_replicated_through_a_storage_account() {
        let all = needs(Profile::Hyperv, false);
        let mut observed = BTreeMap::from([(Needs::StorageAccount, false), (Needs::HostsConnected, true)]);
        assert_eq!(missing(&all, &observed), [(Needs::StorageAccount, Some(false))]);
        observed.insert(Needs::StorageAccount, true);
        assert_eq!(missing(&all, &observed), []);
    }

    #[test]
    fn rule_46_hosts_under_hyperv_are_connected_and_what_nobody_has_looked_at_stands_in_the_way() {
        let all = needs(Profile::Hyperv, false);
        let observed = BTreeMap::from([(Needs::StorageAccount, true)]);
        assert_eq!(missing(&all, &observed), [(Needs::HostsConnected, None)]);
    }

    #[test]
    fn rule_47_the_way_home_is_a_planned_failover() {
        let away = ItemState { main: MainState::Protected, active: Side::Recovery, direction: Direction::Reverse, ..ItemState::new() };
        let allowed = allowed_operations(&away, Profile::Hyperv);
        assert!(allowed.contains(&Operation::Failback) && !allowed.contains(&Operation::Failover), "{allowed:?}");
        assert!(!goes_on(Mode::Failback, Outcome::Failed));
    }

    #[test]
    fn rule_48_hyperv_needs_no_special_components() {
        let special = [Needs::ProcessServer, Needs::MasterTarget, Needs::OwnMasterTarget, Needs::PrivateLine, Needs::Policy];
        assert!(needs(Profile::Hyperv, true).iter().all(|need| !special.contains(need)));
    }
}
