//! What each option of a recovery point means: for one machine, for a machine of a plan, for a machine of a replication group in a plan.
//!
//! ```text
//!                                   one machine        in a plan          in a plan and a group
//!   latest                          one more, of each  one more, of each  one more, of each
//!   latest-processed                its own            its own            its own
//!   latest-app-consistent           its own            its own            its own
//!   latest-multi-vm-processed       -                  its own            common
//!   latest-multi-vm-app-consistent  -                  its own, app       common, app
//!   a number                        that one           -                  -
//! ```

use std::collections::BTreeMap;

use crate::{Consistency, GroupName, ItemName, NoPoint, Operation, PointChoice, PointId, RecoveryPoint, common_points, resolve};

/// What an operation is asked of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// One machine.
    Item,
    /// A machine of a plan that is in no replication group.
    InPlan,
    /// A machine of a plan and of a replication group.
    InGroup,
}

/// Which point an option means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Means {
    /// What was sent is processed first, into one more point of each machine.
    OneMoreOfEach,
    OwnLatest,
    OwnLatestApp,
    /// The last one that all machines of the group have in common.
    Common,
    /// The last app-consistent one that they have in common.
    CommonApp,
    ThatOne,
}

/// What an operation is carried out on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Object {
    Item,
    Plan,
    /// Machines of a plan that are kept consistent with each other.
    Group,
}

/// On what an operation is carried out. What is about one machine's points, policy or record is not for many at once.
#[must_use]
pub fn objects(operation: Operation) -> &'static [Object] {
    match operation {
        Operation::TestFailover
        | Operation::CleanTestFailover
        | Operation::PlannedFailover
        | Operation::Failover
        | Operation::Failback
        | Operation::Commit
        | Operation::Undo
        | Operation::Reprotect
        | Operation::Cancel => &[Object::Item, Object::Plan, Object::Group],
        Operation::Protect
        | Operation::ChangePoint
        | Operation::Resync
        | Operation::ChangePolicy
        | Operation::Hold
        | Operation::Release
        | Operation::Unprotect
        | Operation::Resolve
        | Operation::Forget => &[Object::Item],
    }
}

/// What an option means there; `None` if it is not offered.
#[must_use]
pub fn means(choice: PointChoice, scope: Scope) -> Option<Means> {
    match (choice, scope) {
        (PointChoice::Latest, _) => Some(Means::OneMoreOfEach),
        (PointChoice::LatestProcessed, _) => Some(Means::OwnLatest),
        (PointChoice::LatestAppConsistent, _) => Some(Means::OwnLatestApp),
        (PointChoice::LatestMultiVmProcessed | PointChoice::LatestMultiVmAppConsistent, Scope::Item) => None,
        (PointChoice::LatestMultiVmProcessed, Scope::InPlan) => Some(Means::OwnLatest),
        (PointChoice::LatestMultiVmProcessed, Scope::InGroup) => Some(Means::Common),
        (PointChoice::LatestMultiVmAppConsistent, Scope::InPlan) => Some(Means::OwnLatestApp),
        (PointChoice::LatestMultiVmAppConsistent, Scope::InGroup) => Some(Means::CommonApp),
        (PointChoice::Exact(_), Scope::Item) => Some(Means::ThatOne),
        (PointChoice::Exact(_), Scope::InPlan | Scope::InGroup) => None,
    }
}

/// Whether a plan offers an option: the ones for many machines need at least one that is in a replication group, a number none.
#[must_use]
pub fn plan_offers(choice: PointChoice, any_group: bool) -> bool {
    means(choice, Scope::InPlan).is_some() && (any_group || !choice.is_of_many())
}

/// Whether one machine offers an option: app-consistent points only if the policy takes any.
#[must_use]
pub fn item_offers(choice: PointChoice, app_consistent: bool) -> bool {
    let wants_app = means(choice, Scope::Item) == Some(Means::OwnLatestApp);
    means(choice, Scope::Item).is_some() && (app_consistent || !wants_app)
}

/// A machine of a plan with the points that its target has.
#[derive(Debug, Clone)]
pub struct Member {
    pub item: ItemName,
    pub group: Option<GroupName>,
    pub points: Vec<RecoveryPoint>,
}

/// Why a plan has no set of points.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoPlanPoints {
    /// The option is for something else.
    #[error("a plan can't be recovered from `{choice}`: {why}")]
    NotOffered { choice: PointChoice, why: &'static str },
    /// One of its machines has none.
    #[error("machine {item} has no such point")]
    Item {
        item: ItemName,
        #[source]
        source: NoPoint,
    },
    /// A replication group has none in common.
    #[error("a replication group has no such point")]
    Group(#[source] NoPoint),
}

/// The point of each machine of a plan.
///
/// # Errors
/// The option is not offered, or one machine or group has no such point: a plan is recovered whole or not at all.
pub fn plan_points(choice: PointChoice, members: &[Member]) -> Result<BTreeMap<ItemName, PointId>, NoPlanPoints> {
    if !plan_offers(choice, members.iter().any(|member| member.group.is_some())) {
        let exact = matches!(choice, PointChoice::Exact(_));
        let why = if exact { "a number is a point of one machine" } else { "none of its machines is in a replication group" };
        return Err(NoPlanPoints::NotOffered { choice, why });
    }
    let point = |member: &Member, choice: PointChoice| {
        let found = resolve(&member.points, choice).map_err(|source| NoPlanPoints::Item { item: member.item.clone(), source })?;
        Ok((member.item.clone(), found))
    };
    let choices = choices(choice, members)?;
    members.iter().filter_map(|member| choices.get(&member.item).map(|choice| point(member, *choice))).collect()
}

/// What an option means for each machine, all points standing still: for those of a replication group the number of a point of their
/// own, by which all of them come from one moment. `members` are whole groups, of a plan that offers the option.
///
/// # Errors
/// `Group`: one has no moment in common.
pub fn choices(choice: PointChoice, members: &[Member]) -> Result<BTreeMap<ItemName, PointChoice>, NoPlanPoints> {
    let own = |member: &Member| {
        let scope = if member.group.is_some() { Scope::InGroup } else { Scope::InPlan };
        let own = match means(choice, scope)? {
            Means::OwnLatestApp => PointChoice::LatestAppConsistent,
            // What was sent has become a point by then.
            Means::OwnLatest | Means::OneMoreOfEach => PointChoice::LatestProcessed,
            Means::Common | Means::CommonApp | Means::ThatOne => return None,
        };
        Some((member.item.clone(), own))
    };
    let mut chosen: BTreeMap<ItemName, PointChoice> = members.iter().filter_map(own).collect();
    let consistency = match means(choice, Scope::InGroup) {
        Some(Means::Common) => Consistency::Crash,
        Some(Means::CommonApp) => Consistency::App,
        Some(Means::OneMoreOfEach | Means::OwnLatest | Means::OwnLatestApp | Means::ThatOne) | None => return Ok(chosen),
    };
    for (group, of_group) in groups(members) {
        let common = common_points(&group, &of_group, consistency).map_err(NoPlanPoints::Group)?;
        chosen.extend(common.into_iter().map(|(item, point)| (item, PointChoice::Exact(point))));
    }
    Ok(chosen)
}

fn groups(members: &[Member]) -> BTreeMap<GroupName, Vec<(ItemName, Vec<RecoveryPoint>)>> {
    let mut groups: BTreeMap<GroupName, Vec<_>> = BTreeMap::new();
    for member in members {
        if let Some(group) = &member.group {
            groups.entry(group.clone()).or_default().push((member.item.clone(), member.points.clone()));
        }
    }
    groups
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails where its sentence does not hold")]
mod tests {
    use chrono::DateTime;

    use super::*;
    use crate::{Generation, GroupMoment};

    const SCOPES: [Scope; 3] = [Scope::Item, Scope::InPlan, Scope::InGroup];

    fn point(id: u64, consistency: Consistency, moment: Option<&str>) -> RecoveryPoint {
        RecoveryPoint {
            id: PointId(id),
            consistency,
            taken_at: DateTime::UNIX_EPOCH,
            generation: Generation { era: 1, grant_epoch: 1 },
            size_bytes: 0,
            group: moment.map(|moment| GroupMoment { group: "shop".parse().unwrap(), moment: moment.to_owned() }),
            pinned: false,
            withdrawn: false,
        }
    }

    /// Two machines of a group that share m1 (quiet) and m2, and one by itself.
    fn shop() -> Vec<Member> {
        use Consistency::{App, Crash};
        let member = |name: &str, group: bool, points| Member { item: name.parse().unwrap(), group: group.then(|| "shop".parse().unwrap()), points };
        vec![
            member("db", true, vec![point(1, App, Some("m1")), point(2, Crash, Some("m2")), point(3, App, None)]),
            member("web", true, vec![point(11, App, Some("m1")), point(12, Crash, Some("m2")), point(13, Crash, Some("m3"))]),
            member("mail", false, vec![point(20, App, None), point(21, Crash, None)]),
        ]
    }

    fn chosen(choice: PointChoice) -> Vec<(String, u64)> {
        plan_points(choice, &shop()).unwrap().into_iter().map(|(item, point)| (item.to_string(), point.0)).collect()
    }

    fn points(db: u64, mail: u64, web: u64) -> Vec<(String, u64)> {
        vec![("db".into(), db), ("mail".into(), mail), ("web".into(), web)]
    }

    #[test]
    fn rule_26_latest_processes_all_that_was_sent_into_a_point_of_each_machine() {
        assert_eq!(SCOPES.map(|scope| means(PointChoice::Latest, scope)), [Some(Means::OneMoreOfEach); 3]);
        assert_eq!(chosen(PointChoice::Latest), points(3, 21, 13), "not a common one");
    }

    #[test]
    fn rule_27_latest_processed_is_the_last_point_of_each_machine() {
        assert_eq!(SCOPES.map(|scope| means(PointChoice::LatestProcessed, scope)), [Some(Means::OwnLatest); 3]);
        assert_eq!(chosen(PointChoice::LatestProcessed), points(3, 21, 13));
    }

    #[test]
    fn rule_28_latest_app_consistent_is_offered_only_where_such_points_are_taken() {
        assert_eq!(SCOPES.map(|scope| means(PointChoice::LatestAppConsistent, scope)), [Some(Means::OwnLatestApp); 3]);
        assert!(item_offers(PointChoice::LatestAppConsistent, true) && !item_offers(PointChoice::LatestAppConsistent, false));
        assert_eq!(chosen(PointChoice::LatestAppConsistent), points(3, 20, 11));
    }

    #[test]
    fn rule_29_latest_multi_vm_processed_is_the_last_common_point_of_a_group_and_the_own_one_of_others() {
        assert_eq!(SCOPES.map(|scope| means(PointChoice::LatestMultiVmProcessed, scope)), [None, Some(Means::OwnLatest), Some(Means::Common)]);
        assert_eq!(chosen(PointChoice::LatestMultiVmProcessed), points(2, 21, 12));
        assert!(!plan_offers(PointChoice::LatestMultiVmProcessed, false));
    }

    #[test]
    fn rule_30_latest_multi_vm_app_consistent_is_the_last_common_quiet_point_of_a_group_and_the_own_quiet_one_of_others() {
        let meant = SCOPES.map(|scope| means(PointChoice::LatestMultiVmAppConsistent, scope));
        assert_eq!(meant, [None, Some(Means::OwnLatestApp), Some(Means::CommonApp)]);
        assert_eq!(chosen(PointChoice::LatestMultiVmAppConsistent), points(1, 20, 11));
        assert!(!plan_offers(PointChoice::LatestMultiVmAppConsistent, false));
    }

    #[test]
    fn rule_31_a_point_by_its_number_is_for_one_machine_and_never_for_a_plan() {
        let exact = PointChoice::Exact(PointId(3));
        assert_eq!(SCOPES.map(|scope| means(exact, scope)), [Some(Means::ThatOne), None, None]);
        let refused = plan_points(exact, &shop()).unwrap_err().to_string();
        assert_eq!(refused, "a plan can't be recovered from `3`: a number is a point of one machine");
    }

    #[test]
    fn rule_54_failovers_commits_and_reprotection_are_for_machines_plans_and_groups() {
        let for_all = [Operation::TestFailover, Operation::PlannedFailover, Operation::Failover, Operation::Failback, Operation::Commit, Operation::Reprotect];
        for operation in for_all {
            assert_eq!(objects(operation), [Object::Item, Object::Plan, Object::Group], "{operation}");
        }
        assert_eq!(objects(Operation::ChangePoint), [Object::Item]);
    }

    #[test]
    fn a_plan_is_recovered_whole_or_not_at_all() {
        let mut members = shop();
        members[2].points.clear();
        let refused = plan_points(PointChoice::LatestMultiVmProcessed, &members).unwrap_err();
        assert_eq!(refused, NoPlanPoints::Item { item: "mail".parse().unwrap(), source: NoPoint::None });
        let alone = &shop()[2..];
        let refused = plan_points(PointChoice::LatestMultiVmProcessed, alone).unwrap_err().to_string();
        assert_eq!(refused, "a plan can't be recovered from `latest-multi-vm-processed`: none of its machines is in a replication group");
    }
}
